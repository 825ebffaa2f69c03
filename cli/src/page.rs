//! Lists that come in pages.

use bursar_proto::limits;

use crate::error::Error;

/// What was fetched of a list.
#[derive(Debug)]
pub(crate) struct Fetched<T> {
    pub(crate) items: Vec<T>,
    /// Whether the list goes on.
    pub(crate) more: bool,
}

/// Fetches pages until there are `limit` items or no more. `page` gets the size and the token of the page it is to
/// fetch, and answers with its items and the token of the next.
///
/// # Errors
/// The first error of `page`.
pub(crate) async fn fetch<T>(
    limit: usize,
    mut page: impl AsyncFnMut(u32, String) -> Result<(Vec<T>, String), Error>,
) -> Result<Fetched<T>, Error> {
    let mut items = Vec::new();
    let mut token = String::new();
    loop {
        let wanted = u32::try_from(limit - items.len()).unwrap_or(limits::PAGE).min(limits::PAGE);
        let asked = token.clone();
        let (read, next) = page(wanted, token).await?;
        items.extend(read);
        // A page may be empty while more follows, but a token that leads to itself would never end.
        let stuck = next == asked;
        if next.is_empty() || stuck || items.len() >= limit {
            let more = !next.is_empty() || items.len() > limit;
            items.truncate(limit);
            return Ok(Fetched { items, more });
        }
        token = next;
    }
}

/// Fetched when nobody says how many.
pub(crate) const DEFAULT: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of `length` numbers in pages, and how many pages of it were asked for.
    fn fetched(length: u32, limit: usize) -> (Fetched<u32>, u32) {
        let mut pages = 0;
        let result = fetch(limit, |size: u32, token: String| {
            pages += 1;
            let start = token.parse::<u32>().unwrap_or_default();
            let end = (start + size).min(length);
            let next = if end < length { end.to_string() } else { String::new() };
            std::future::ready(Ok(((start..end).collect(), next)))
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        (runtime.block_on(result).expect("pages"), pages)
    }

    #[test]
    fn a_short_list_is_one_page() {
        let (fetched, pages) = fetched(5, 100);
        assert_eq!((fetched.items.len(), fetched.more, pages), (5, false, 1));
    }

    #[test]
    fn a_long_list_takes_several_and_stops_at_the_limit() {
        let (fetched, pages) = fetched(5000, 2500);
        assert_eq!((fetched.items.len(), fetched.more, pages), (2500, true, 3));
        assert_eq!(fetched.items.last(), Some(&2499));
    }

    #[test]
    fn an_empty_page_is_not_the_end() {
        let mut answers = vec![(vec![1], String::new()), (vec![], "b".to_owned())];
        let fetched = fetch(10, |_, _| std::future::ready(Ok(answers.pop().expect("an answer"))));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        assert_eq!(runtime.block_on(fetched).expect("pages").items, [1]);
    }

    #[test]
    fn a_token_that_leads_to_itself_ends_the_list() {
        let fetched = fetch(10, |_, _| std::future::ready(Ok((Vec::<u32>::new(), "a".to_owned()))));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        assert!(runtime.block_on(fetched).expect("pages").items.is_empty());
    }

    #[test]
    fn a_list_that_ends_at_the_limit_has_no_more() {
        let (fetched, _) = fetched(100, 100);
        assert!(!fetched.more);
    }
}
