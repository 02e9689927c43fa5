//! A view as lines, in the room that there is.

use super::head::head;
use super::lines::{Line, Style};
use super::sections::{Section, egresses, functions, hottest, ingresses};
use super::view::View;
use crate::args::TopSort;

/// What a view is drawn for.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) columns: usize,
    /// None where there is no end.
    pub(super) rows: Option<usize>,
    pub(super) sort: TopSort,
    /// Where the application was found.
    pub(super) source: String,
    /// Why there is no newer view.
    pub(super) trouble: Option<String>,
}

/// The lines of a view.
pub(super) fn draw(view: &View, page: &Page) -> Vec<Line> {
    let mut lines = head(view, page);
    let mut sections: Vec<Section> = [
        functions(view, page),
        ingresses(&view.ingresses, page.columns),
        egresses(&view.egresses, page.columns),
        hottest(view, page.columns),
    ]
    .into_iter()
    .flatten()
    .collect();
    let room = page.rows.map(|rows| rows.saturating_sub(lines.len()));
    if let Some(room) = room {
        // A heading of which nothing but "more" is shown takes the room of others.
        while sections.len() > 1 && room < sections.iter().map(Section::least).sum() {
            sections.pop();
        }
    }
    let headings = sections.len();
    let wanted: Vec<usize> = sections.iter().map(|section| section.lines.len()).collect();
    // Blank lines are the first thing to go.
    let blanks = room.is_none_or(|room| room >= wanted.iter().sum::<usize>() + 2 * headings);
    let weights: Vec<usize> = sections.iter().map(|section| section.weight).collect();
    let given = match room {
        Some(room) if !blanks => shared_out(room.saturating_sub(headings), &wanted, &weights),
        _ => wanted,
    };
    for (section, given) in sections.into_iter().zip(given) {
        if blanks {
            lines.push(Line::default());
        }
        lines.push(section.heading);
        let all = section.lines.len();
        if given >= all {
            lines.extend(section.lines);
        } else if given > 0 {
            lines.extend(section.lines.into_iter().take(given - 1));
            let hidden = all - (given - 1);
            lines.push(Line::of(Style::Faint, format!("… {hidden} more")));
        }
    }
    if let Some(rows) = page.rows {
        lines.truncate(rows);
    }
    lines
}

/// Gives everyone what they want, or a part of it that goes by their weight.
fn shared_out(room: usize, wanted: &[usize], weights: &[usize]) -> Vec<usize> {
    let mut given = vec![0; wanted.len()];
    let mut left = room;
    while left > 0 {
        // The next line goes to who has the least for their weight.
        let next = (0..wanted.len())
            .filter(|index| given[*index] < wanted[*index])
            .min_by(|one, other| {
                (given[*one] * weights[*other]).cmp(&(given[*other] * weights[*one]))
            });
        let Some(next) = next else { break };
        given[next] += 1;
        left -= 1;
    }
    given
}
