//! Two texts as a unified diff, as `diff -u` prints it.

const CONTEXT: usize = 3;
/// Cells of the table of common lines: beyond it the middle is one change.
const MOST_CELLS: usize = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Edit {
    Same,
    Out,
    In,
}

/// Empty where the texts are the same.
pub(crate) fn diff(from: &str, to: &str, old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let edits = edits(&a, &b);
    let mut text = format!("--- {from}\n+++ {to}\n");
    let changed: Vec<usize> = (0..edits.len())
        .filter(|i| edits[*i] != Edit::Same)
        .collect();
    let mut at = 0;
    while at < changed.len() {
        let mut last = at;
        while last + 1 < changed.len() && changed[last + 1] - changed[last] <= 2 * CONTEXT {
            last += 1;
        }
        let begin = changed[at].saturating_sub(CONTEXT);
        let end = (changed[last] + CONTEXT + 1).min(edits.len());
        hunk(&mut text, &a, &b, &edits, begin..end);
        at = last + 1;
    }
    text
}

fn hunk(text: &mut String, a: &[&str], b: &[&str], edits: &[Edit], range: std::ops::Range<usize>) {
    let count = |list: &[Edit], not: Edit| list.iter().filter(|e| **e != not).count();
    let (before, here) = (&edits[..range.start], &edits[range]);
    let (mut i, mut j) = (count(before, Edit::In), count(before, Edit::Out));
    let (lines_a, lines_b) = (count(here, Edit::In), count(here, Edit::Out));
    let range = |first: usize, lines: usize| match lines {
        0 => format!("{first},0"),
        1 => format!("{}", first + 1),
        _ => format!("{},{lines}", first + 1),
    };
    text.push_str(&format!(
        "@@ -{} +{} @@\n",
        range(i, lines_a),
        range(j, lines_b)
    ));
    for edit in here {
        let (mark, line) = match edit {
            Edit::Same => (' ', a[i]),
            Edit::Out => ('-', a[i]),
            Edit::In => ('+', b[j]),
        };
        i += usize::from(*edit != Edit::In);
        j += usize::from(*edit != Edit::Out);
        text.push(mark);
        text.push_str(line);
        text.push('\n');
    }
}

/// By the longest common lines.
fn edits(a: &[&str], b: &[&str]) -> Vec<Edit> {
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[head..], &b[head..]);
    let ends = a.iter().rev().zip(b.iter().rev());
    let tail = ends.take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[..a.len() - tail], &b[..b.len() - tail]);
    let mut edits = vec![Edit::Same; head];
    let width = b.len() + 1;
    if (a.len() + 1).saturating_mul(width) > MOST_CELLS {
        edits.extend(a.iter().map(|_| Edit::Out));
        edits.extend(b.iter().map(|_| Edit::In));
    } else {
        // How many lines are common from here to the end.
        let mut common = vec![0u32; (a.len() + 1) * width];
        for i in (0..a.len()).rev() {
            for j in (0..b.len()).rev() {
                common[i * width + j] = match a[i] == b[j] {
                    true => common[(i + 1) * width + j + 1] + 1,
                    false => common[(i + 1) * width + j].max(common[i * width + j + 1]),
                };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < a.len() || j < b.len() {
            let out = i < a.len()
                && (j == b.len() || common[(i + 1) * width + j] >= common[i * width + j + 1]);
            if i < a.len() && j < b.len() && a[i] == b[j] {
                edits.push(Edit::Same);
                (i, j) = (i + 1, j + 1);
            } else if out {
                edits.push(Edit::Out);
                i += 1;
            } else {
                edits.push(Edit::In);
                j += 1;
            }
        }
    }
    edits.extend(vec![Edit::Same; tail]);
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `diff -u` prints for the same.
    #[test]
    fn as_diff_prints_it() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\n";
        let new = "a\nB\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\n";
        assert_eq!(
            diff("x", "y", old, new),
            "--- x\n+++ y\n@@ -1,5 +1,5 @@\n a\n-b\n+B\n c\n d\n e\n@@ -10,3 +10,4 @@\n j\n k\n l\n+m\n"
        );
        assert_eq!(
            diff("x", "y", "", "a\nb\n"),
            "--- x\n+++ y\n@@ -0,0 +1,2 @@\n+a\n+b\n"
        );
        assert_eq!(
            diff("x", "y", "a\n", "b\n"),
            "--- x\n+++ y\n@@ -1 +1 @@\n-a\n+b\n"
        );
        assert_eq!(diff("x", "y", old, old), "");
    }
}
