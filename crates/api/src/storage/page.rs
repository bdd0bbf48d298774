//! Filters and pages of `Describe` calls, from shapes to `ebs` and back.

use super::code::invalid_value;
use super::shape::Filter as FilterShape;
use crate::error::Error;
use awsproto::code::INVALID_PARAMETER_COMBINATION;
use ebs::filter::{Filter, Filterable, check_filters, passes};
use ebs::page::{Page, paginate};
use std::ops::RangeInclusive;

/// Smallest page a caller may ask for (spec 02, "DescribeSnapshots").
const RESULTS_MIN: i32 = 5;
/// Largest page, and the page of a caller that asks for none once ids are not given.
const RESULTS_MAX: i32 = 1000;

/// What part of a list is asked for.
pub(crate) struct Selection {
    filters: Vec<Filter>,
    limit: Option<usize>,
    token: Option<String>,
    query: String,
}

/// The paging members of a request.
pub(crate) struct Paging {
    /// `MaxResults`.
    pub(crate) max_results: Option<i32>,
    /// `NextToken`.
    pub(crate) next_token: Option<String>,
    /// Whether resources are named, which excludes paging.
    pub(crate) ids_given: bool,
}

impl Selection {
    /// Checks filters and paging for resources of type `T`. `selectors` is any text that tells
    /// this query from others, beside its filters.
    ///
    /// # Errors
    /// For an unknown filter, a page size out of range, or paging of named resources.
    pub(crate) fn new<T: Filterable>(
        filters: Vec<FilterShape>,
        paging: Paging,
        selectors: &str,
    ) -> Result<Self, Error> {
        Self::within::<T>(filters, paging, selectors, RESULTS_MIN..=RESULTS_MAX)
    }

    /// As [`Selection::new`], for pages of other sizes than most operations have.
    ///
    /// # Errors
    /// As [`Selection::new`].
    pub(crate) fn within<T: Filterable>(
        filters: Vec<FilterShape>,
        paging: Paging,
        selectors: &str,
        sizes: RangeInclusive<i32>,
    ) -> Result<Self, Error> {
        let filters: Vec<Filter> = filters
            .into_iter()
            .map(|filter| Filter { name: filter.name.unwrap_or_default(), values: filter.values })
            .collect();
        check_filters::<T>(&filters)?;
        let Paging { max_results, next_token, ids_given } = paging;
        if ids_given && (max_results.is_some() || next_token.is_some()) {
            return Err(Error::new(
                INVALID_PARAMETER_COMBINATION,
                "The parameter maxResults cannot be used with the parameter that lists IDs.",
            ));
        }
        if let Some(results) = max_results
            && !sizes.contains(&results)
        {
            return Err(invalid_value(format!(
                "Value ( {results} ) for parameter maxResults is invalid. Expecting a value \
                 greater than or equal to {} and less than or equal to {}.",
                sizes.start(),
                sizes.end(),
            )));
        }
        let limit = max_results
            .map(|results| usize::try_from(results).expect("the range has been checked"));
        let query = format!("{selectors}|{filters:?}");
        Ok(Self { filters, limit, token: next_token, query })
    }

    /// The page of `items` that is asked for; they are sorted by `key` and unique in it.
    ///
    /// # Errors
    /// For a token of another query.
    pub(crate) fn page<T: Filterable>(
        &self,
        items: Vec<T>,
        key: impl Fn(&T) -> &str,
    ) -> Result<Page<T>, Error> {
        let items = items.into_iter().filter(|item| passes(&self.filters, item)).collect();
        Ok(paginate(items, key, &self.query, self.token.as_deref(), self.limit)?)
    }
}
