//! The job file as messages.

use super::events::{by_name, sql_columns};
use super::{WireError, required};
use crate::proto;
use shoal_clustering::PassRecord;
use shoal_domain::JobSpec;
use shoal_domain::events::EventsSpec;
use shoal_domain::job::{
    Algorithm, FileFormat, Init, KMeansSpec, Missing, PrepareSpec, PurchasesSpec, Scale, Silhouette, SourceSpec,
    ValidateSpec,
};

impl From<&JobSpec> for proto::JobSpec {
    fn from(spec: &JobSpec) -> Self {
        Self {
            source: Some((&spec.source).into()),
            prepare: Some(spec.prepare.into()),
            kmeans: Some((&spec.kmeans).into()),
            validate: Some(spec.validate.into()),
        }
    }
}

impl TryFrom<proto::JobSpec> for JobSpec {
    type Error = WireError;

    fn try_from(spec: proto::JobSpec) -> Result<Self, WireError> {
        Ok(Self {
            source: required("spec.source", spec.source)?.try_into()?,
            prepare: spec.prepare.unwrap_or_default().try_into()?,
            kmeans: required("spec.kmeans", spec.kmeans)?.try_into()?,
            validate: spec.validate.unwrap_or_default().try_into()?,
        })
    }
}

impl From<&SourceSpec> for proto::Source {
    fn from(source: &SourceSpec) -> Self {
        let format = match source.format {
            None => proto::FileFormat::Unspecified,
            Some(FileFormat::Parquet) => proto::FileFormat::Parquet,
            Some(FileFormat::Csv) => proto::FileFormat::Csv,
            Some(FileFormat::Jsonl) => proto::FileFormat::Jsonl,
        };
        Self {
            path: source.path.clone(),
            format: format.into(),
            features: source.features.clone().unwrap_or_default(),
            id: source.id.clone(),
            weight: source.weight.clone(),
            purchases: source.purchases.clone().map(|purchases| proto::Purchases {
                customer: purchases.customer,
                time: purchases.time,
                order: purchases.order,
                amount: purchases.amount,
                as_of: purchases.as_of,
            }),
            events: source.events.as_ref().map(proto::Events::from),
            columns: sql_columns(&source.columns),
            derive: sql_columns(&source.derive),
        }
    }
}

impl TryFrom<proto::Source> for SourceSpec {
    type Error = WireError;

    fn try_from(source: proto::Source) -> Result<Self, WireError> {
        let format = match known(source.format, "spec.source.format")? {
            proto::FileFormat::Unspecified => None,
            proto::FileFormat::Parquet => Some(FileFormat::Parquet),
            proto::FileFormat::Csv => Some(FileFormat::Csv),
            proto::FileFormat::Jsonl => Some(FileFormat::Jsonl),
        };
        Ok(Self {
            path: source.path,
            format,
            features: (!source.features.is_empty()).then_some(source.features),
            id: source.id,
            weight: source.weight,
            purchases: source.purchases.map(|purchases| PurchasesSpec {
                customer: purchases.customer,
                time: purchases.time,
                order: purchases.order,
                amount: purchases.amount,
                as_of: purchases.as_of,
            }),
            events: source.events.map(EventsSpec::try_from).transpose()?,
            columns: by_name(source.columns),
            derive: by_name(source.derive),
        })
    }
}

impl From<PrepareSpec> for proto::Prepare {
    fn from(prepare: PrepareSpec) -> Self {
        let missing = match prepare.missing {
            Missing::Error => proto::Missing::Error,
            Missing::Drop => proto::Missing::Drop,
            Missing::Mean => proto::Missing::Mean,
            Missing::Median => proto::Missing::Median,
        };
        let scale = match prepare.scale {
            Scale::Zscore => proto::Scale::Zscore,
            Scale::Minmax => proto::Scale::Minmax,
            Scale::Robust => proto::Scale::Robust,
            Scale::Log1pZscore => proto::Scale::Log1pZscore,
            Scale::None => proto::Scale::None,
        };
        Self { missing: missing.into(), scale: scale.into() }
    }
}

impl TryFrom<proto::Prepare> for PrepareSpec {
    type Error = WireError;

    fn try_from(prepare: proto::Prepare) -> Result<Self, WireError> {
        let missing = match known(prepare.missing, "spec.prepare.missing")? {
            proto::Missing::Unspecified | proto::Missing::Error => Missing::Error,
            proto::Missing::Drop => Missing::Drop,
            proto::Missing::Mean => Missing::Mean,
            proto::Missing::Median => Missing::Median,
        };
        let scale = match known(prepare.scale, "spec.prepare.scale")? {
            proto::Scale::Unspecified | proto::Scale::Zscore => Scale::Zscore,
            proto::Scale::Minmax => Scale::Minmax,
            proto::Scale::Robust => Scale::Robust,
            proto::Scale::Log1pZscore => Scale::Log1pZscore,
            proto::Scale::None => Scale::None,
        };
        Ok(Self { missing, scale })
    }
}

impl From<&KMeansSpec> for proto::KMeans {
    fn from(kmeans: &KMeansSpec) -> Self {
        let init = match kmeans.init {
            Init::PlusPlus => proto::Init::PlusPlus,
            Init::Parallel => proto::Init::Parallel,
            Init::Random => proto::Init::Random,
        };
        let algorithm = match kmeans.algorithm {
            Algorithm::Lloyd => proto::Algorithm::Lloyd,
            Algorithm::MiniBatch => proto::Algorithm::MiniBatch,
        };
        Self {
            n_clusters: kmeans.n_clusters as u64,
            algorithm: algorithm.into(),
            batch_size: Some(kmeans.batch_size as u64),
            init: init.into(),
            n_init: Some(kmeans.n_init as u64),
            max_iter: Some(kmeans.max_iter as u64),
            tol: Some(kmeans.tol),
            seed: kmeans.seed,
        }
    }
}

impl TryFrom<proto::KMeans> for KMeansSpec {
    type Error = WireError;

    fn try_from(kmeans: proto::KMeans) -> Result<Self, WireError> {
        let init = match known(kmeans.init, "spec.kmeans.init")? {
            proto::Init::PlusPlus => Init::PlusPlus,
            proto::Init::Unspecified | proto::Init::Parallel => Init::Parallel,
            proto::Init::Random => Init::Random,
        };
        let algorithm = match known(kmeans.algorithm, "spec.kmeans.algorithm")? {
            proto::Algorithm::Unspecified | proto::Algorithm::Lloyd => Algorithm::Lloyd,
            proto::Algorithm::MiniBatch => Algorithm::MiniBatch,
        };
        let defaults = Self::with_clusters(0);
        let count = |value: Option<u64>, default| value.map_or(default, |value| value as usize);
        Ok(Self {
            n_clusters: kmeans.n_clusters as usize,
            algorithm,
            batch_size: count(kmeans.batch_size, defaults.batch_size),
            init,
            n_init: count(kmeans.n_init, defaults.n_init),
            max_iter: count(kmeans.max_iter, defaults.max_iter),
            tol: kmeans.tol.unwrap_or(defaults.tol),
            seed: kmeans.seed,
            warm_start: None,
        })
    }
}

impl From<ValidateSpec> for proto::Validate {
    fn from(validate: ValidateSpec) -> Self {
        let silhouette = match validate.silhouette {
            Silhouette::Exact => proto::SilhouetteMode::Exact,
            Silhouette::Sampled => proto::SilhouetteMode::Sampled,
            Silhouette::Simplified => proto::SilhouetteMode::Simplified,
            Silhouette::None => proto::SilhouetteMode::None,
        };
        Self {
            silhouette: silhouette.into(),
            silhouette_sample: Some(validate.silhouette_sample as u64),
            row_silhouettes: validate.row_silhouettes,
            davies_bouldin: Some(validate.davies_bouldin),
            calinski_harabasz: Some(validate.calinski_harabasz),
        }
    }
}

impl TryFrom<proto::Validate> for ValidateSpec {
    type Error = WireError;

    fn try_from(validate: proto::Validate) -> Result<Self, WireError> {
        let silhouette = match known(validate.silhouette, "spec.validate.silhouette")? {
            proto::SilhouetteMode::Unspecified | proto::SilhouetteMode::Exact => Silhouette::Exact,
            proto::SilhouetteMode::Sampled => Silhouette::Sampled,
            proto::SilhouetteMode::Simplified => Silhouette::Simplified,
            proto::SilhouetteMode::None => Silhouette::None,
        };
        let defaults = Self::default();
        Ok(Self {
            silhouette,
            silhouette_sample: validate.silhouette_sample.map_or(defaults.silhouette_sample, |rows| rows as usize),
            row_silhouettes: validate.row_silhouettes,
            davies_bouldin: validate.davies_bouldin.unwrap_or(defaults.davies_bouldin),
            calinski_harabasz: validate.calinski_harabasz.unwrap_or(defaults.calinski_harabasz),
        })
    }
}

impl From<PassRecord> for proto::Pass {
    fn from(record: PassRecord) -> Self {
        Self {
            start: record.start as u64,
            n_iter: record.n_iter as u64,
            inertia: record.inertia,
            shift: record.shift,
            n_active: record.n_active as u64,
        }
    }
}

impl From<proto::Pass> for PassRecord {
    fn from(pass: proto::Pass) -> Self {
        Self {
            start: pass.start as usize,
            n_iter: pass.n_iter as usize,
            inertia: pass.inertia,
            shift: pass.shift,
            n_active: pass.n_active as usize,
        }
    }
}

/// An enum value that this version knows.
pub(super) fn known<E: TryFrom<i32>>(value: i32, field: &'static str) -> Result<E, WireError> {
    E::try_from(value).map_err(|_| WireError::Invalid { field, reason: "is a value that this version does not know" })
}
