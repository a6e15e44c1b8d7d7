//! Lists by the number of a page, as these APIs have them. The gateway's own lists have cursors; so a page is found by a walk from the beginning, page by page
//! of the bus: a page far behind costs as much as all before it, and holds nobody up.

use headgate_bus::{MAX_PAGE, Page};

/// Rows of one page of the bus at the least, where few are wanted.
const FEW: usize = 100;

/// Which rows are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub page: usize,
    pub limit: usize,
}

impl Span {
    pub(super) fn skipped(self) -> usize {
        (self.page.max(1) - 1).saturating_mul(self.limit)
    }

    /// Of a list that is at hand.
    pub(super) fn of<T>(self, rows: Vec<T>) -> Found<T> {
        let mut rows = rows.into_iter().skip(self.skipped());
        let found: Vec<T> = rows.by_ref().take(self.limit).collect();
        let more = rows.next().is_some();
        Found { rows: found, more }
    }
}

/// The rows of a page, and whether there are more.
pub(super) struct Found<T> {
    pub rows: Vec<T>,
    pub more: bool,
}

impl<T> Found<T> {
    /// Those that are still there, as something else.
    pub(super) fn filter_map<R>(self, f: impl FnMut(T) -> Option<R>) -> Found<R> {
        Found {
            rows: self.rows.into_iter().filter_map(f).collect(),
            more: self.more,
        }
    }
}

/// Walks through a list until the page is full and one more row is seen.
pub(super) async fn walk<T, R, Cursor>(
    span: Span,
    mut page: impl FnMut(Option<&Cursor>, usize) -> Page<T, Cursor>,
    mut keep: impl FnMut(T) -> Option<R>,
) -> Found<R> {
    let (mut skip, mut rows) = (span.skipped(), Vec::new());
    let mut after = None;
    loop {
        let left = skip.saturating_add(span.limit - rows.len() + 1);
        let found = page(after.as_ref(), left.clamp(FEW, MAX_PAGE));
        for row in found.rows.into_iter().filter_map(&mut keep) {
            if skip > 0 {
                skip -= 1;
            } else if rows.len() == span.limit {
                return Found { rows, more: true };
            } else {
                rows.push(row);
            }
        }
        after = found.next;
        if after.is_none() {
            return Found { rows, more: false };
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of numbers in pages of seven.
    fn numbers(after: Option<&u32>, _: usize) -> Page<u32, u32> {
        let first = after.map_or(0, |after| after + 1);
        let rows: Vec<u32> = (first..(first + 7).min(40)).collect();
        let next = rows.last().copied().filter(|last| *last < 39);
        Page { rows, next }
    }

    #[tokio::test]
    async fn pages_are_found_by_number() {
        let even = |n: u32| n.is_multiple_of(2).then_some(n);
        let page = |page| walk(Span { page, limit: 6 }, numbers, even);
        assert_eq!(page(1).await.rows, [0, 2, 4, 6, 8, 10]);
        assert!(page(1).await.more);
        assert_eq!(page(4).await.rows, [36, 38]);
        assert!(!page(4).await.more);
        assert!(page(5).await.rows.is_empty());
        let all = walk(Span { page: 1, limit: 20 }, numbers, even).await;
        assert!(!all.more, "a page that is just full is the last one");
    }
}
