//! The look of a page: style, script, fill patterns, the frame around the sections.
//!
//! Nothing is fetched: a content policy in the page forbids it. Colours are of Okabe and Ito's kind, darkened to be read
//! on white, and every colour is doubled by a letter, a dash or a pattern. It knows no report.

use super::markup::esc;
use std::fmt::Write;

/// Number of fill patterns.
pub const FILLS: usize = 8;

const DASHES: [&str; 5] = ["none", "8 4", "2 3", "10 3 2 3", "5 2"];

/// The stroke pattern of a series: with the seven colours, 35 series differ.
pub fn dash(series: usize) -> &'static str {
    DASHES[(series + series / 7) % DASHES.len()]
}

/// A whole page from its title, header, table of contents (anchor, text) and sections. All but the title are HTML.
pub fn page(title: &str, header: &str, contents: &[(&str, &str)], body: &str) -> String {
    let title = esc(title);
    let contents: String =
        contents.iter().map(|(id, text)| format!("<li><a href=\"#{id}\">{text}</a></li>")).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{}</style>\n</head>\n\
         <body>\n<a class=\"skip\" href=\"#main\">Skip to the report</a>\n{}<div class=\"page\">\n\
         <header><h1>{title}</h1>{header}<nav aria-label=\"Contents\"><ol>{contents}</ol></nav></header>\n\
         <main id=\"main\">\n{body}</main>\n</div>\n<script>\n{}</script>\n</body>\n</html>\n",
        include_str!("theme.css"),
        patterns(),
        include_str!("theme.js")
    )
}

/// The fills as SVG patterns: colour below, a texture of its own above.
fn patterns() -> String {
    const TEXTURES: [&str; FILLS] = [
        "",
        "<path d=\"M-2 2L2 -2M0 8L8 0M6 10L10 6\"/>",
        "<path d=\"M0 4H8\"/>",
        "<path d=\"M0 0L8 8M8 0L0 8\"/>",
        "<path d=\"M4 0V8\"/>",
        "<circle cx=\"2\" cy=\"2\" r=\"1.1\"/><circle cx=\"6\" cy=\"6\" r=\"1.1\"/>",
        "<path d=\"M-2 6L2 10M0 0L8 8M6 -2L10 2\"/>",
        "",
    ];
    let mut out =
        String::from("<svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\"><defs>");
    for (i, texture) in TEXTURES.iter().enumerate() {
        let _ = write!(
            out,
            "<pattern id=\"fill{i}\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">\
             <rect width=\"8\" height=\"8\" style=\"fill:var(--f{i})\"/>\
             <g style=\"stroke:var(--hatch);stroke-width:1.4;fill:none\">{texture}</g></pattern>"
        );
    }
    out.push_str("</defs></svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_series_differ_in_colour_or_dash() {
        let all: std::collections::BTreeSet<_> = (0..30).map(|i| (i % 7, dash(i))).collect();
        assert_eq!(all.len(), 30);
    }
}
