// What a Lloyd pass is told. The host writes these structures field by field (crates/cuda/src/lloyd.rs).
#pragma once
#include "device.cuh"

/// One set of centroids.
struct LloydSet {
    const uint4* fragments;   // n_tiles x STEPS x 32: for lane (g, t) of centroid 8 tile + g, features 16 step + 4 t ..
    const float* half_norms;  // n_tiles x 8, scaled; infinite where there is no centroid
    const float* centroids;   // n_clusters x n_features
    u16* labels;              // n_rows; null where nothing is remembered
    float* until;             // n_rows
    u64* sums;                // 4 limbs x n_clusters x n_features; null where only weights are asked for
    u64* weights;             // 3 limbs x n_clusters: counts, then weights in two limbs
    u32 n_clusters;
    u32 n_tiles;
    u32 shared_fragments;     // where they are in shared memory, in 16 bytes
    u32 shared_norms;         // in 4 bytes, as those that follow
    u32 shared_counts;
    u32 shared_sums;          // low halves, then high halves; NOWHERE if they are added in global memory
    float lead_per_norm;
    float lead_min;
    float way;                // where marks are counted from
    u32 is_filled;            // labels are those of an earlier pass
};

constexpr u32 NOWHERE = 0xffffffffu;

struct LloydPass {
    const float* rows;
    const u64* row_weights;   // null where rows have none
    const double* per_unit;   // n_features
    const u32* list;          // the rows to look at; null for all
    const u32* n_listed;
    const LloydSet* sets;
    u32 n_sets;
    u32 n_rows;
    u32 stride;
    u32 n_features;
    u32 n_shared_words;       // of shared memory, in 4 bytes, to be cleared before sums are added there
    u32 tiles_together;       // of a streamed set, in shared memory at a time
    float scale;              // a power of two; float16 parts are of rows times this
    float per_scale;
};
