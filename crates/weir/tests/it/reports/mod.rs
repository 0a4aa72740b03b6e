//! What others have reported in public of tools like this one, as tests: each is named after what should be true.

mod peers;
