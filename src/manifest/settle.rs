//! Whether what was read from a manifest stays as it is when it is shown and read again, and
//! when it is changed by itself. The fuzz target `objects` asks that of any bytes.

use serde_json::{Value, json};

use super::patch::PatchKind;
use super::{Source, merged, merged_object, parse, patched, patched_object, replaced_object};
use crate::spec::{Object, Pod};
use crate::{Context, Error, Result};

/// How many Pods and objects the bytes are; 0 of what is no manifest.
///
/// # Errors
/// One of them does not stay as it is: a fault of carob.
pub fn check_settled(bytes: &[u8]) -> Result<usize> {
    let Ok(parsed) = parse(&source(bytes.to_vec()), None) else {
        return Ok(0);
    };
    for object in &parsed.objects {
        check_object(object).with_context(|| object.reference())?;
    }
    for pod in &parsed.pods {
        check_pod(pod).with_context(|| format!("pod/{}", pod.name))?;
    }
    Ok(parsed.objects.len() + parsed.pods.len())
}

fn check_object(object: &Object) -> Result<()> {
    let shown = source(object.v1().to_string().into_bytes());
    let again = parse(&shown, None).context("as it is shown")?.objects;
    let [again] = again.as_slice() else {
        return Err(Error::failed("it is shown as something else"));
    };
    let none = json!({});
    let uid = Some(object.uid.as_str());
    for (what, new) in [
        ("shown and read", replaced_object(object, again, uid)),
        ("replaced", replaced_object(object, object, uid)),
        ("merged", merged_object(object, object, uid)),
        (
            "patched",
            patched_object(object, &none, PatchKind::Strategic),
        ),
        (
            "patched (merge)",
            patched_object(object, &none, PatchKind::Merge),
        ),
    ] {
        same(what, &object.manifest, &new.context(what)?.manifest)?;
    }
    Ok(())
}

fn check_pod(pod: &Pod) -> Result<()> {
    let shown = source(pod.manifest.to_string().into_bytes());
    let again = parse(&shown, Some(&pod.namespace));
    let again = again.context("as it is shown")?.pods;
    let [again] = again.as_slice() else {
        return Err(Error::failed("it is shown as something else"));
    };
    same("shown and read", &pod.manifest, &again.manifest)?;
    let none = json!({});
    for (what, new) in [
        ("merged", merged(pod, pod)),
        ("patched", patched(pod, &none, PatchKind::Strategic)),
        ("patched (merge)", patched(pod, &none, PatchKind::Merge)),
    ] {
        let new = new.context(what)?;
        same(what, &pod.manifest, &new.manifest)?;
        if new.spec != pod.spec {
            return Err(Error::failed(format!("{what}: another spec")));
        }
    }
    Ok(())
}

fn source(bytes: Vec<u8>) -> [Source; 1] {
    let name = "-".to_owned();
    [Source { name, bytes }]
}

/// But for the uid and the time that each reading gives a Pod; an object has them elsewhere.
fn same(what: &str, before: &Value, after: &Value) -> Result<()> {
    let bare = |value: &Value| {
        let mut value = value.clone();
        if let Some(meta) = value["metadata"].as_object_mut() {
            meta.shift_remove("uid");
            meta.shift_remove("creationTimestamp");
        }
        value
    };
    if bare(before) == bare(after) {
        return Ok(());
    }
    Err(Error::failed(format!("{what}: {before} became {after}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that are the same in each run (xorshift).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % end.max(1) as u64) as usize
        }
    }

    fn files() -> Vec<Vec<u8>> {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests");
        let entries = std::fs::read_dir(dir).unwrap();
        let mut paths: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|p| std::fs::read(p).unwrap()).collect()
    }

    #[test]
    fn manifests_stay_as_they_are() {
        let counts: Vec<usize> = files()
            .iter()
            .map(|bytes| check_settled(bytes).unwrap())
            .collect();
        let good = counts.iter().filter(|n| **n > 0).count();
        assert!(good >= 60, "{counts:?}");
    }

    #[test]
    fn so_do_changed_ones_that_are_accepted() {
        let files = files();
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let mut accepted = 0;
        for _ in 0..3000 {
            let mut bytes = files[numbers.below(files.len())].clone();
            for _ in 0..=numbers.below(3) {
                let at = numbers.below(bytes.len());
                let end = (at + numbers.below(12)).min(bytes.len());
                match numbers.below(5) {
                    0 => bytes[at] = numbers.below(256) as u8,
                    1 => drop(bytes.drain(at..end)),
                    2 => {
                        let part = bytes[at..end].to_vec();
                        let to = numbers.below(bytes.len());
                        bytes.splice(to..to, part);
                    }
                    3 => bytes.insert(at, b" \n:-{}[]\"'~0/.,"[numbers.below(15)]),
                    _ => {
                        let other = &files[numbers.below(files.len())];
                        let from = numbers.below(other.len());
                        let part = &other[from..(from + 16).min(other.len())];
                        bytes.splice(at..end, part.iter().copied());
                    }
                }
            }
            match check_settled(&bytes) {
                Ok(n) => accepted += usize::from(n > 0),
                Err(e) => panic!("{e}\n{}", String::from_utf8_lossy(&bytes)),
            }
        }
        assert!(accepted > 300, "{accepted}");
    }
}
