//! What a message, a stream or a wait may cost, in one place.

use std::time::Duration;

/// The largest gRPC or Flight message that is accepted. Answers are planned to stay far below: 1 Mi sums are 16 MiB, and
/// a block of 1,024 rows reaches the limit at 8,000 float64 features.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// The most values, n_clusters x n_features, of a job on a fleet: a description of so many sums, some 50 bytes each, fits
/// a message, and so do ten times as many candidates of k-means||.
pub const MAX_CENTROID_VALUES: usize = 1 << 20;

/// The most sums, rows x n_clusters, of one question about distances.
pub const MAX_DISTANCE_SUMS: usize = shoal_clustering::silhouette::MAX_SUMS_PER_QUESTION;

/// The most histograms of one question about digits: 16 KiB each.
pub const MAX_DIGIT_QUERIES: usize = 2_048;

/// The most rows of one draw.
pub const MAX_DRAWN_ROWS: usize = 1 << 20;

/// How long connecting to a peer may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long two peers may take to show each other their certificates.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one question to a worker may take: exact silhouettes of a block against a large shard are the longest.
pub const QUESTION_TIMEOUT: Duration = Duration::from_secs(600);

/// How often HTTP/2 asks a silent peer whether it lives, and how long it waits for the answer.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// See [`KEEPALIVE_INTERVAL`].
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a worker reports to the coordinator.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(1_000);
/// A worker that has not reported for so long is gone.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(5_000);

/// How long a server that was told to stop waits for calls and streams to end.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a Flight stream may stand still before it is given up.
pub const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a stream that has failed is read on, so that its sender can hear why.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// HTTP/2 flow-control windows: a stream may have so many bytes under way. The defaults of 64 KiB to 1 MiB halt a data
/// stream at every round trip.
pub const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// See [`STREAM_WINDOW_BYTES`]; for all streams of a connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

/// How long a job whose workers are all gone waits for one to join.
pub const WORKERS_AWAITED: Duration = Duration::from_secs(60);
/// How often it looks.
pub const WORKERS_LOOKED_FOR: Duration = Duration::from_millis(200);

/// How often one question may cost workers before it is taken for what kills them.
pub const LOSSES_MAX: usize = 3;
/// How often blocks are placed before it is given up, when workers are lost over it.
pub const PLACEMENTS_MAX: usize = 8;

/// How long a coordinator leads without renewing it.
pub const LEASE: Duration = Duration::from_secs(5);

/// How long a client waits for one of several coordinators to lead.
pub const LEADER_AWAITED: Duration = Duration::from_secs(15);

/// How long a client that follows a job waits for a coordinator that has gone.
pub const COORDINATOR_AWAITED: Duration = Duration::from_secs(60);
/// How often it looks.
pub const COORDINATOR_LOOKED_FOR: Duration = Duration::from_millis(300);
