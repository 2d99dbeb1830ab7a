//! What a user submits: where the rows are, how to prepare, cluster and validate them.
//!
//! The types are the job file: field names, defaults and the JSON Schema that `shoal schema` prints come from here.

use crate::DomainError;
use crate::events::EventsSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One segmentation: purchases or features in, validated segments out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Where the rows come from.
    pub source: SourceSpec,
    /// How raw columns become comparable numbers.
    #[serde(default)]
    pub prepare: PrepareSpec,
    /// The clustering.
    pub kmeans: KMeansSpec,
    /// Which scores are computed for the result.
    #[serde(default)]
    pub validate: ValidateSpec,
}

impl JobSpec {
    /// Checks what the types alone cannot: ranges, and that the source is described in exactly one way.
    pub fn check(&self) -> Result<(), DomainError> {
        self.source.check()?;
        if self.source.events.is_some() && self.source.features.is_none() {
            let reason = "say which features of the events to cluster by; `shoal features` shows what there is";
            return Err(DomainError::Job { field: "source.features", reason });
        }
        self.kmeans.check()?;
        self.validate.check()
    }
}

/// A job of which only the features are wanted: the rest may be missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeaturesJob {
    /// Where the rows come from.
    pub source: SourceSpec,
    /// Not looked at.
    #[serde(default)]
    pub prepare: Option<PrepareSpec>,
    /// Not looked at.
    #[serde(default)]
    pub kmeans: Option<KMeansSpec>,
    /// Not looked at.
    #[serde(default)]
    pub validate: Option<ValidateSpec>,
}

impl FeaturesJob {
    /// Checks what the types alone cannot.
    pub fn check(&self) -> Result<(), DomainError> {
        self.source.check()
    }
}

/// A file, a folder or an object-store URL, and how to read it: ready features, or purchases or events to compute them from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// A Parquet, CSV or JSON lines file; a folder of them, with all folders in it, in the order of their paths; or a URL (`s3://`,
    /// `gs://`, `az://`, `http(s)://`, `file://`).
    pub path: String,
    /// The file format; taken from the path's ending when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// Ready features: the numeric columns to cluster, in this order. Needs `id`. With `events`, those of their features that are wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,
    /// The column that names the customer of a row of ready features; its type is kept. In a CSV file it is text, as it is
    /// written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A column of sample weights (>= 0) of ready features; every row weighs 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// Purchase lines, from which recency, frequency and monetary value are computed for each customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purchases: Option<PurchasesSpec>,
    /// Events, from which features are computed for each customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<EventsSpec>,
    /// Columns computed from those of a row before anything else looks at it: names, and SQL expressions of the files' columns. They may
    /// then be used like these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// Features computed from those of a customer that were made of purchases or events: names, and SQL expressions such as
    /// `coalesce(recency, 999)` or `monetary / sessions`. Those that `features` lists, or all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub derive: BTreeMap<String, String>,
}

impl SourceSpec {
    fn check(&self) -> Result<(), DomainError> {
        let wrong = |field, reason| Err(DomainError::Job { field, reason });
        if !self.derive.is_empty() && self.events.is_none() && self.purchases.is_none() {
            return wrong("source.derive", "is for features made of events or purchases; ready ones have `columns`");
        }
        if let Some(events) = &self.events {
            return match () {
                () if self.purchases.is_some() => wrong("source", "give `events` or `purchases`, not both"),
                () if self.id.is_some() => wrong("source.id", "belongs to ready features; events have `customer`"),
                () if self.weight.is_some() => wrong("source.weight", "belongs to ready features"),
                () => events.check(),
            };
        }
        match (&self.features, &self.purchases) {
            (Some(_), Some(_)) => wrong("source", "give `features` or `purchases`, not both"),
            (None, None) => wrong("source", "give `features` (with `id`), `purchases` or `events`"),
            (Some(_), None) if self.id.is_none() => {
                wrong("source.id", "ready features need the column of the customer id")
            }
            (None, Some(_)) if self.id.is_some() => {
                wrong("source.id", "belongs to `features`; purchases have `customer`")
            }
            (None, Some(_)) if self.weight.is_some() => wrong("source.weight", "belongs to `features`"),
            _ => Ok(()),
        }
    }
}

/// File formats that a source may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON object a line; a column is the path to a value, such as `properties.total`.
    Jsonl,
}

/// The columns of a purchase line. Recency is whole days from the last purchase to `as_of` (times without a zone are
/// taken as UTC), frequency the number of distinct orders, monetary value the sum of the amounts, refunds included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PurchasesSpec {
    /// Who bought.
    pub customer: String,
    /// When: a timestamp or date column.
    pub time: String,
    /// Which order (basket, receipt) the line belongs to; frequency counts distinct orders.
    pub order: String,
    /// What was paid for the line, rounded to six decimals; refunds are negative.
    pub amount: String,
    /// The day from which recency is counted back, `YYYY-MM-DD`; purchases on and after it are left out.
    pub as_of: String,
}

/// How raw columns become comparable numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrepareSpec {
    /// What to do with a missing value (null or NaN).
    pub missing: Missing,
    /// How columns are brought to one scale.
    pub scale: Scale,
}

/// What to do with a missing value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Refuse the data, naming the row and the column.
    #[default]
    Error,
    /// Leave the row out; the report counts such rows.
    Drop,
    /// Put the column's mean in its place.
    Mean,
    /// Put the column's median in its place.
    Median,
}

/// How columns are brought to one scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// `(x - mean) / standard deviation` (of the population, as scikit-learn's StandardScaler).
    #[default]
    Zscore,
    /// `(x - min) / (max - min)`.
    Minmax,
    /// `(x - median) / (third quartile - first quartile)`.
    Robust,
    /// `zscore` of `ln(1 + x)`; every value must be greater than -1.
    Log1pZscore,
    /// Left in the customer's units (centred on the mean, which k-means does not notice).
    None,
}

/// The parameters of k-means; names and meanings are scikit-learn's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KMeansSpec {
    /// How many clusters, at least 1.
    #[schemars(range(min = 1, max = 65_536))]
    pub n_clusters: usize,
    /// How the centroids come to rest.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Rows of the first batch of `minibatch`, at least; never fewer than 32 for each cluster.
    #[serde(default = "KMeansSpec::default_batch_size")]
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// How the first centroids are chosen.
    #[serde(default)]
    pub init: Init,
    /// How many times to start. The start with the lowest inertia is returned; of several, unless by `minibatch`, once it has been
    /// taken to rest and no single row would lower the inertia in another cluster (Hartigan 1975).
    #[serde(default = "KMeansSpec::default_n_init")]
    #[schemars(range(min = 1, max = 1_000))]
    pub n_init: usize,
    /// The most Lloyd passes of one start; over all rows, and over each batch of `minibatch`.
    #[serde(default = "KMeansSpec::default_max_iter")]
    #[schemars(range(min = 1))]
    pub max_iter: usize,
    /// Stop when the squared shift of the centroids is at most `tol` times the mean variance of the features. Of several starts it
    /// decides which is the best; that one goes on until its centroids move no more.
    #[serde(default = "KMeansSpec::default_tol")]
    #[schemars(range(min = 0.0))]
    pub tol: f64,
    /// Seed of every random choice.
    #[serde(default)]
    pub seed: u64,
    /// Start from the centroids of this `model.json`: one start, whatever `init` and `n_init` say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_start: Option<String>,
}

impl KMeansSpec {
    /// So many clusters, and the default of everything else.
    pub fn with_clusters(n_clusters: usize) -> Self {
        Self {
            n_clusters,
            algorithm: Algorithm::default(),
            batch_size: Self::default_batch_size(),
            init: Init::default(),
            n_init: Self::default_n_init(),
            max_iter: Self::default_max_iter(),
            tol: Self::default_tol(),
            seed: 0,
            warm_start: None,
        }
    }

    /// scikit-learn's own default for random starts.
    fn default_n_init() -> usize {
        10
    }

    fn default_batch_size() -> usize {
        10_000
    }

    fn default_max_iter() -> usize {
        300
    }

    fn default_tol() -> f64 {
        1.0e-4
    }

    fn check(&self) -> Result<(), DomainError> {
        let wrong = |field, reason| Err(DomainError::Job { field, reason });
        if !(1..=MAX_CLUSTERS).contains(&self.n_clusters) {
            return wrong("kmeans.n_clusters", "must be from 1 to 65536");
        }
        if !(1..=MAX_STARTS).contains(&self.n_init) {
            return wrong("kmeans.n_init", "must be from 1 to 1000");
        }
        if self.batch_size == 0 {
            return wrong("kmeans.batch_size", "must be at least 1");
        }
        if self.max_iter == 0 {
            return wrong("kmeans.max_iter", "must be at least 1");
        }
        if !(self.tol.is_finite() && self.tol >= 0.0) {
            return wrong("kmeans.tol", "must be a finite number, 0 or more");
        }
        Ok(())
    }
}

/// The most clusters of one run: labels and messages are laid out for it.
pub const MAX_CLUSTERS: usize = 65_536;
/// The most starts of one run: they advance together, so each costs memory on every worker.
pub const MAX_STARTS: usize = 1_000;

/// The most rows of a sampled silhouette: its standard error is then at most 0.0032 whatever the data.
pub const MAX_SAMPLE: usize = 100_000;

/// How the centroids come to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Passes over all rows (Lloyd 1982).
    #[default]
    Lloyd,
    /// Passes over nested random batches, each four times as large as the one before, and over all rows at the end
    /// (Newling & Fleuret 2016). Rests by the tolerance, as `lloyd`, or as soon as a pass moves the centroids less than a tenth of
    /// how far other customers of the same kind would; sooner, and mostly somewhere else. The starts compete on the first
    /// batch, and the best one goes on. Rows that are fewer than sixteen batches have none.
    MiniBatch,
}

/// How the first centroids are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Init {
    /// One row at a time, with probability proportional to its squared distance from those chosen (Arthur &
    /// Vassilvitskii 2007). One pass over the data a centroid.
    #[serde(rename = "k-means++")]
    PlusPlus,
    /// A few passes that draw many candidates each, then k-means++ among the candidates (Bahmani et al. 2012). Of more than half a
    /// million rows each start draws from a sample of a quarter of a million, or of 64 a cluster.
    #[default]
    #[serde(rename = "k-means||")]
    Parallel,
    /// Distinct rows, each equally likely.
    #[serde(rename = "random")]
    Random,
}

/// Which scores are computed for the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ValidateSpec {
    /// Mean silhouette (Rousseeuw 1987).
    pub silhouette: Silhouette,
    /// Rows that `sampled` looks at, each against all rows.
    #[schemars(range(min = 2, max = 100_000))]
    pub silhouette_sample: usize,
    /// Writes the silhouette of every row beside its label, in the column `silhouette`; for `exact` alone. Empty where the
    /// silhouette is undefined.
    pub row_silhouettes: bool,
    /// Davies-Bouldin index (1979); lower is better.
    pub davies_bouldin: bool,
    /// Calinski-Harabasz index (1974); higher is better.
    pub calinski_harabasz: bool,
}

impl ValidateSpec {
    fn check(&self) -> Result<(), DomainError> {
        if self.silhouette == Silhouette::Sampled && !(2..=MAX_SAMPLE).contains(&self.silhouette_sample) {
            let reason = "must be from 2, or there is no standard error, to 100000";
            return Err(DomainError::Job { field: "validate.silhouette_sample", reason });
        }
        if self.row_silhouettes && self.silhouette != Silhouette::Exact {
            let reason = "needs `silhouette: exact`; another one does not look at every row";
            return Err(DomainError::Job { field: "validate.row_silhouettes", reason });
        }
        Ok(())
    }
}

impl Default for ValidateSpec {
    fn default() -> Self {
        Self {
            silhouette: Silhouette::Exact,
            silhouette_sample: 10_000,
            row_silhouettes: false,
            davies_bouldin: true,
            calinski_harabasz: true,
        }
    }
}

/// How the silhouette is computed; the answer always says which way it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Silhouette {
    /// Every row against every row; time grows with the square of the rows.
    Exact,
    /// A random sample of rows against every row, reported with its standard error.
    Sampled,
    /// Every row against the centroids, as if each cluster's rows lay on its centroid (Hruschka, de Castro & Campello
    /// 2004): one pass. Another score than the silhouette of the rows, and usually a higher one.
    Simplified,
    /// Not at all.
    None,
}
