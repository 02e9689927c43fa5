//! The terminal while it shows a view that is renewed: its other screen, without echo, and as it was at the end, however that comes.

use std::io;
use std::sync::Once;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{execute, queue};

use super::lines::{Line, Look};
use crate::status::Failure;
use crate::terminal::Terminal;

/// What somebody at the terminal wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    Sort,
    Help,
    /// Leaves help; else nothing.
    Back,
    Redraw,
}

/// What an event at the terminal means.
pub(super) fn wish(event: &Event) -> Option<Wish> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
            KeyCode::Char('l') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                Some(Wish::Redraw)
            }
            KeyCode::Char('q' | 'Q') => Some(Wish::Quit),
            KeyCode::Char('s' | 'S') => Some(Wish::Sort),
            KeyCode::Char('?' | 'h') => Some(Wish::Help),
            KeyCode::Esc => Some(Wish::Back),
            _ => None,
        },
        Event::Resize(..) => Some(Wish::Redraw),
        _ => None,
    }
}

/// The other screen of the terminal; left when it is dropped, and before a panic is reported.
#[derive(Debug)]
pub(super) struct Screen<'t> {
    terminal: &'t Terminal,
}

impl<'t> Screen<'t> {
    pub(super) fn enter(terminal: &'t Terminal) -> Result<Self, Failure> {
        static REPORT: Once = Once::new();
        let cannot = |error: io::Error| {
            Failure::usage(format_args!("cannot take over the terminal: {error}"))
                .help("`--once` prints one view")
        };
        REPORT.call_once(|| {
            let report = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                leave();
                report(panic);
            }));
        });
        enable_raw_mode().map_err(cannot)?;
        // From here on it is dropped, whatever happens.
        let screen = Self { terminal };
        execute!(io::stdout(), EnterAlternateScreen, Hide).map_err(cannot)?;
        Ok(screen)
    }

    /// Columns and rows.
    pub(super) fn size() -> (usize, usize) {
        let (columns, rows) = crossterm::terminal::size()
            .ok()
            .filter(|(columns, rows)| *columns > 0 && *rows > 0)
            .unwrap_or((80, 24));
        (usize::from(columns), usize::from(rows))
    }

    /// Shows the lines in place of what stood there.
    pub(super) fn show(&self, lines: &[Line], columns: usize, look: Look) -> Result<(), Failure> {
        let mut frame: Vec<u8> = Vec::new();
        queue!(frame, BeginSynchronizedUpdate, MoveTo(0, 0)).map_err(Failure::output)?;
        for (row, line) in lines.iter().enumerate() {
            if row > 0 {
                frame.extend_from_slice(b"\r\n");
            }
            frame.extend_from_slice(line.written(columns, look).as_bytes());
            // A line that fills its row leaves the cursor on its last column, which this would clear.
            if line.width() < columns {
                queue!(frame, Clear(ClearType::UntilNewLine)).map_err(Failure::output)?;
            }
        }
        queue!(
            frame,
            Clear(ClearType::FromCursorDown),
            EndSynchronizedUpdate
        )
        .map_err(Failure::output)?;
        self.terminal.data(frame)
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        leave();
    }
}

/// Does no harm where it was left already.
fn leave() {
    if crossterm::terminal::is_raw_mode_enabled().unwrap_or(false) {
        // Nobody can be told when the terminal is gone.
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn keys() {
        let key = |code, modifiers| wish(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(
            key(KeyCode::Char('q'), KeyModifiers::NONE),
            Some(Wish::Quit)
        );
        assert_eq!(
            key(KeyCode::Char('c'), KeyModifiers::CONTROL),
            Some(Wish::Quit)
        );
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(
            key(KeyCode::Char('s'), KeyModifiers::NONE),
            Some(Wish::Sort)
        );
        assert_eq!(
            key(KeyCode::Char('?'), KeyModifiers::SHIFT),
            Some(Wish::Help)
        );
        assert_eq!(key(KeyCode::Up, KeyModifiers::NONE), None);
        assert_eq!(wish(&Event::Resize(80, 24)), Some(Wish::Redraw));
        assert_eq!(wish(&Event::FocusLost), None);
    }
}
