//! Huge pages: how much of each size a container may have, and volumes of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Container, Spec};

/// The sizes that x86-64 and arm64 have where an ordinary page has 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PageSize {
    #[serde(rename = "64Ki")]
    K64,
    #[serde(rename = "2Mi")]
    M2,
    #[serde(rename = "32Mi")]
    M32,
    #[serde(rename = "1Gi")]
    G1,
}

impl PageSize {
    /// In the order of [`Hugepages`].
    pub(crate) const ALL: [PageSize; 4] =
        [PageSize::K64, PageSize::M2, PageSize::M32, PageSize::G1];

    /// The name of the resource.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            PageSize::K64 => "hugepages-64Ki",
            PageSize::M2 => "hugepages-2Mi",
            PageSize::M32 => "hugepages-32Mi",
            PageSize::G1 => "hugepages-1Gi",
        }
    }

    pub(crate) fn of_resource(name: &str) -> Option<PageSize> {
        Self::ALL.into_iter().find(|size| size.resource() == name)
    }

    /// As the files of the hugetlb controller have it.
    pub(crate) fn in_cgroup(self) -> &'static str {
        match self {
            PageSize::K64 => "64KB",
            PageSize::M2 => "2MB",
            PageSize::M32 => "32MB",
            PageSize::G1 => "1GB",
        }
    }

    pub(crate) fn bytes(self) -> u64 {
        match self {
            PageSize::K64 => 64 << 10,
            PageSize::M2 => 2 << 20,
            PageSize::M32 => 32 << 20,
            PageSize::G1 => 1 << 30,
        }
    }
}

/// Bytes of each size: request and limit, which are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, u64>", into = "BTreeMap<String, u64>")]
pub(crate) struct Hugepages([u64; PageSize::ALL.len()]);

impl Hugepages {
    pub(crate) fn is_none(&self) -> bool {
        self.each().next().is_none()
    }

    pub(crate) fn of(self, size: PageSize) -> u64 {
        self.0[size as usize]
    }

    pub(crate) fn set(&mut self, size: PageSize, bytes: u64) {
        self.0[size as usize] = bytes;
    }

    /// The sizes of which there are any.
    pub(crate) fn each(self) -> impl Iterator<Item = (PageSize, u64)> {
        let all = PageSize::ALL
            .into_iter()
            .map(move |size| (size, self.of(size)));
        all.filter(|(_, bytes)| *bytes > 0)
    }
}

impl From<Hugepages> for BTreeMap<String, u64> {
    fn from(pages: Hugepages) -> Self {
        let name = |(size, bytes): (PageSize, u64)| (size.resource().to_owned(), bytes);
        pages.each().map(name).collect()
    }
}

impl TryFrom<BTreeMap<String, u64>> for Hugepages {
    type Error = String;

    fn try_from(map: BTreeMap<String, u64>) -> Result<Self, String> {
        let mut pages = Hugepages::default();
        for (name, bytes) in map {
            let size = PageSize::of_resource(&name);
            pages.set(size.ok_or_else(|| format!("no size {name:?}"))?, bytes);
        }
        Ok(pages)
    }
}

/// The medium of an emptyDir of huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HugeMedium {
    /// `HugePages`: of the one size that containers of the Pod ask for.
    Any,
    /// `HugePages-2Mi`
    Of(PageSize),
}

impl HugeMedium {
    pub(crate) const ALL: [(&'static str, HugeMedium); 5] = [
        ("HugePages", HugeMedium::Any),
        ("HugePages-64Ki", HugeMedium::Of(PageSize::K64)),
        ("HugePages-2Mi", HugeMedium::Of(PageSize::M2)),
        ("HugePages-32Mi", HugeMedium::Of(PageSize::M32)),
        ("HugePages-1Gi", HugeMedium::Of(PageSize::G1)),
    ];

    pub(crate) fn word(self) -> &'static str {
        let found = Self::ALL.into_iter().find(|(_, medium)| *medium == self);
        found.map_or("HugePages", |(word, _)| word)
    }
}

impl Spec {
    /// What the Pod's containers may have together.
    pub(crate) fn hugepages(&self) -> Hugepages {
        let mut pages = Hugepages::default();
        for size in PageSize::ALL {
            let of = |c: &Container| Some(c.resources.hugepages.of(size));
            pages.set(size, self.sum(&of).unwrap_or(0));
        }
        pages
    }

    /// The size of the pages of a volume, or why it cannot be mounted, in a kubelet's words.
    pub(crate) fn page_size(&self, medium: HugeMedium) -> Result<PageSize, String> {
        let asked = self.hugepages();
        let mut sizes = asked.each().map(|(size, _)| size);
        let none = "hugePages storage requested, but there is no resource request for huge pages";
        match medium {
            HugeMedium::Of(wanted) if sizes.any(|size| size == wanted) => Ok(wanted),
            HugeMedium::Of(wanted) => Err(format!("{none} of its size, {}", wanted.resource())),
            HugeMedium::Any => match (sizes.next(), sizes.next()) {
                (Some(size), None) => Ok(size),
                (None, _) => Err(none.to_owned()),
                (Some(_), Some(_)) => Err(format!(
                    "medium: {} can't be used if container requests multiple huge page sizes",
                    medium.word()
                )),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(init: &[(PageSize, u64)], containers: &[&[(PageSize, u64)]]) -> Spec {
        let container = |pages: &[(PageSize, u64)]| {
            let mut c = Container::default();
            for (size, bytes) in pages {
                c.resources.hugepages.set(*size, *bytes);
            }
            c
        };
        Spec {
            init_containers: vec![container(init)],
            containers: containers.iter().map(|c| container(c)).collect(),
            ..Spec::default()
        }
    }

    #[test]
    fn a_pod_has_the_sum_of_its_containers_or_what_one_alone_has() {
        use PageSize::{G1, M2};
        let pod = spec(&[(M2, 10 << 20)], &[&[(M2, 4 << 20)], &[(G1, 1 << 30)]]);
        let all: Vec<_> = pod.hugepages().each().collect();
        assert_eq!(all, [(M2, 10 << 20), (G1, 1 << 30)]);
        let json = serde_json::to_string(&pod.hugepages()).unwrap();
        assert_eq!(
            json,
            r#"{"hugepages-1Gi":1073741824,"hugepages-2Mi":10485760}"#
        );
        let back: Hugepages = serde_json::from_str(&json).unwrap();
        assert_eq!(back, pod.hugepages());
        assert!(serde_json::from_str::<Hugepages>(r#"{"hugepages-3Mi":1}"#).is_err());
    }

    #[test]
    fn the_size_of_the_pages_of_a_volume() {
        use HugeMedium::{Any, Of};
        use PageSize::{G1, M2};
        let one = spec(&[], &[&[(M2, 2 << 20)], &[]]);
        assert_eq!(one.page_size(Any), Ok(M2));
        assert_eq!(one.page_size(Of(M2)), Ok(M2));
        assert!(one.page_size(Of(G1)).unwrap_err().contains("hugepages-1Gi"));
        let two = spec(&[(G1, 1 << 30)], &[&[(M2, 2 << 20)]]);
        assert_eq!(two.page_size(Of(G1)), Ok(G1));
        let why = two.page_size(Any).unwrap_err();
        assert!(why.contains("multiple huge page sizes"), "{why}");
        let none = spec(&[], &[&[]]).page_size(Any).unwrap_err();
        assert!(none.contains("no resource request"), "{none}");
    }
}
