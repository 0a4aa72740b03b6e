//! The pages of fault codes as HTML: the same text as `weir explain`, from `docs/faults`.

use crate::pages;
use askama::Template;

/// The frame around an explanation.
#[derive(Template)]
#[template(path = "explain.html")]
struct Frame {
    title: String,
    /// HTML made here, from pages that are part of the binary.
    body: String,
}

/// The page of a code, when there is one.
pub(super) fn page(code: &str) -> Option<String> {
    let page = pages::find(code)?;
    frame(format!("{} · Weir", page.code), html(page.text))
}

/// The list of all codes.
pub(super) fn list() -> Option<String> {
    let mut body = "<h1>Fault codes</h1><dl>".to_owned();
    for page in pages::all() {
        let (code, title) = (page.code, inline(page.title()));
        body.push_str(&format!("<dt><a href=\"/explain/{code}\">{code}</a></dt><dd>{title}</dd>"));
    }
    frame("Fault codes · Weir".to_owned(), body + "</dl>")
}

fn frame(title: String, body: String) -> Option<String> {
    Frame { title, body }.render().ok()
}

/// The little of Markdown that our pages use: a title, paragraphs, bold, code. Everything else stays as it is.
fn html(text: &str) -> String {
    let blocks = text.split("\n\n").map(str::trim).filter(|block| !block.is_empty());
    blocks
        .map(|block| match block.strip_prefix("# ") {
            Some(title) => format!("<h1>{}</h1>\n", inline(title)),
            None => format!("<p>{}</p>\n", inline(block)),
        })
        .collect()
}

fn inline(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    pairs(&pairs(&escaped, "**", "strong"), "`", "code")
}

/// Each pair of marks becomes an element; a last mark without a partner stays.
fn pairs(text: &str, mark: &str, tag: &str) -> String {
    let parts: Vec<&str> = text.split(mark).collect();
    let is_whole = parts.len() % 2 == 1;
    let mut out = String::with_capacity(text.len() + 16);
    for (index, part) in parts.iter().enumerate() {
        match index {
            0 => {}
            _ if index + 1 == parts.len() && !is_whole => out.push_str(mark),
            _ if index % 2 == 1 => out.push_str(&format!("<{tag}>")),
            _ => out.push_str(&format!("</{tag}>")),
        }
        out.push_str(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_elements_and_nothing_else_does() {
        assert_eq!(
            html("# A-B: why `x`\n\n**What.** a < b, *not*, `<script>`\n"),
            "<h1>A-B: why <code>x</code></h1>\n<p><strong>What.</strong> a &lt; b, *not*, <code>&lt;script&gt;</code></p>\n"
        );
        assert_eq!(html("2 ** 3 ` 4"), "<p>2 ** 3 ` 4</p>\n");
    }

    #[test]
    fn each_code_has_a_page_that_shows_its_text() {
        for page_of in pages::all() {
            let html = page(page_of.code).unwrap();
            assert!(html.contains("<strong>What you do.</strong>") && !html.contains("**"), "{html}");
        }
        assert!(page("W-NO-SUCH").is_none());
        assert!(list().unwrap().contains("/explain/W-KAFKA-UNREACHABLE"));
    }
}
