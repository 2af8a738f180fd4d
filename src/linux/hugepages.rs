//! The machine's huge pages (Documentation/admin-guide/mm/hugetlbpage.rst): a pool for each
//! size. Reserves none.

use std::path::PathBuf;

use crate::{Context, Error, Result};

/// The directory of a pool.
pub(crate) fn pool(page_bytes: u64) -> PathBuf {
    format!("/sys/kernel/mm/hugepages/hugepages-{}kB", page_bytes >> 10).into()
}

/// How many pages of this size can be taken now: those that are free and promised to no
/// mapping, and those that the kernel may make beside. `None`: the kernel has no such size.
pub(crate) fn free(page_bytes: u64) -> Result<Option<u64>> {
    let dir = pool(page_bytes);
    if !dir.exists() {
        return Ok(None);
    }
    let read = |name: &str| -> Result<u64> {
        let file = dir.join(name);
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let number = text.trim().parse();
        number.map_err(|_| Error::failed(format!("{}: no number: {text:?}", file.display())))
    };
    let free = read("free_hugepages")?.saturating_sub(read("resv_hugepages")?);
    let more = read("nr_overcommit_hugepages")?.saturating_sub(read("surplus_hugepages")?);
    Ok(Some(free.saturating_add(more)))
}
