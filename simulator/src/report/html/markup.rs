//! Small pieces of HTML: escaping, tables in a scrolling box, and how a policy is named everywhere.
//!
//! Names come from files and are hostile until escaped. It knows no section and draws no chart.

use super::super::model::Report;
use std::fmt::Write;

/// The text with everything that means something in HTML or could reorder it made harmless.
pub fn esc(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            // Direction overrides let a name pose as another.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The key of a policy: a letter that stands beside its name, on its line and on its mark.
pub fn letter(index: usize) -> String {
    let letter = char::from(b'A' + (index % 26) as u8);
    if index < 26 { letter.to_string() } else { format!("{letter}{}", index / 26) }
}

/// The policy's key and name.
pub fn policy(report: &Report, index: usize) -> String {
    let name = esc(&report.policies[index].name);
    format!(
        "<span class=\"policy\"><b class=\"key s{}\">{}</b><span class=\"name\" title=\"{name}\">{name}</span></span>",
        index % 7,
        letter(index)
    )
}

/// A section with a heading and an anchor.
pub fn section(id: &str, title: &str, intro: &str, body: &str) -> String {
    let intro = if intro.is_empty() { String::new() } else { format!("<p class=\"intro\">{intro}</p>") };
    format!(
        "<section id=\"{id}\" aria-labelledby=\"{id}-h\"><h2 id=\"{id}-h\">{title}</h2>{intro}{body}</section>\n"
    )
}

/// A table: heading cells, then rows whose first cell is the row's heading. All cells are HTML.
pub struct Table {
    /// What the table is, for screen readers and for the print.
    pub caption: String,
    /// Heading cells.
    pub head: Vec<String>,
    /// Rows.
    pub rows: Vec<Vec<Cell>>,
    /// Extra class of the table, e.g. `texts` for left-aligned cells.
    pub class: &'static str,
}

/// A cell of HTML; `best` marks it.
#[derive(Clone, Default)]
pub struct Cell {
    /// The content.
    pub html: String,
    /// Marked with a star and bold.
    pub best: bool,
}

impl Cell {
    /// An unmarked cell.
    pub fn new(html: impl Into<String>) -> Self {
        Cell { html: html.into(), best: false }
    }
}

impl Table {
    /// The table in a box that scrolls on its own and can be reached by keyboard.
    pub fn render(&self) -> String {
        let caption = &self.caption;
        let mut out = format!(
            "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table class=\"{}\">\
             <caption>{caption}</caption><thead><tr>",
            self.class
        );
        for head in &self.head {
            let _ = write!(out, "<th scope=\"col\">{head}</th>");
        }
        out.push_str("</tr></thead><tbody>");
        for row in &self.rows {
            out.push_str("<tr>");
            for (i, cell) in row.iter().enumerate() {
                let html = &cell.html;
                let _ = match (i, cell.best) {
                    (0, _) => write!(out, "<th scope=\"row\">{html}</th>"),
                    (_, false) => write!(out, "<td>{html}</td>"),
                    (_, true) => {
                        // The star stands by the value, before its interval.
                        let (value, rest) = html.split_at(html.find("<small>").unwrap_or(html.len()));
                        write!(
                            out,
                            "<td class=\"best\">{}<span class=\"star\" aria-hidden=\"true\">*</span>\
                             <span class=\"hidden\"> best</span>{rest}</td>",
                            value.trim_end()
                        )
                    }
                };
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table></div>");
        out
    }
}

/// A list of escaped lines.
pub fn list(class: &str, lines: &[String]) -> String {
    let items: String = lines.iter().map(|line| format!("<li>{}</li>", esc(line))).collect();
    format!("<ul class=\"{class}\">{items}</ul>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_inert() {
        assert_eq!(
            esc("<script>\"a\" & 'b'\u{1b}\u{202e}"),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;��"
        );
    }

    #[test]
    fn letters_never_repeat() {
        let all: std::collections::BTreeSet<String> = (0..60).map(letter).collect();
        assert_eq!(all.len(), 60);
    }
}
