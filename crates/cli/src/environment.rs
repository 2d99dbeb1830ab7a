//! What is read from the environment for object stores.

use shoal_behavior::StoreOptions;

/// Variables of the object stores' own command lines. Others are not passed on: stores also know keys like `token` and
/// `region`, which mean something else in many environments.
const PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// Credentials and settings of object stores.
pub(crate) fn store_options() -> StoreOptions {
    let variables =
        std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    variables.filter(|(key, _)| PREFIXES.iter().any(|prefix| key.starts_with(prefix))).collect()
}
