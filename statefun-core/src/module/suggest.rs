//! "Did you mean": the nearest of the known names.

/// The known name that is nearest to `written`, if one is near enough to be meant.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = written.chars().count();
    if length == 0 || length > 256 {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for name in known {
        let longest = length.max(name.chars().count());
        let allowed = (longest / 3).clamp(1, 6);
        let distance = if same_but_for_style(written, name) {
            0
        } else {
            distance(written, name)
        };
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name)
}

/// A help line for it.
pub(crate) fn did_you_mean<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(written, known).map(|name| format!("did you mean `{name}`?"))
}

/// The known names in one line, cut after a few.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 16;
    let all: Vec<&str> = names.into_iter().collect();
    let mut text = all
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if all.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

/// `max_wait`, `max-wait` and `MaxWait` are all `maxWait`.
fn same_but_for_style(a: &str, b: &str) -> bool {
    let plain = |text: &str| {
        text.chars()
            .filter(|c| !matches!(c, '_' | '-'))
            .map(|c| c.to_ascii_lowercase())
            .collect::<String>()
    };
    plain(a) == plain(b)
}

/// Edit distance with neighbours swapped counting once (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let width = b.len() + 1;
    let mut before: Vec<usize> = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = vec![i + 1; width];
        for (j, &to) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                least = least.min(before[j - 1] + 1);
            }
            row[j + 1] = least;
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("target", "targets", 1),
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("grüße", "grusse", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn suggests_only_what_is_near() {
        let known = ["targets", "routers", "maxWait"];
        assert_eq!(nearest("target", known), Some("targets"));
        assert_eq!(nearest("max_wait", known), Some("maxWait"));
        assert_eq!(nearest("router", known), Some("routers"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
    }
}
