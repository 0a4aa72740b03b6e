//! What users of other consumers and connectors have reported, as it should be here.

mod letters;
