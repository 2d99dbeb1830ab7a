// What a Lloyd pass is told. The host writes these structures field by field (crates/cuda/src/lloyd.rs).
#pragma once
#include "device.cuh"

constexpr u32 NOWHERE = 0xffffffffu;

/// One set of centroids.
struct LloydSet {
    const uint4* fragments;   // n_tiles x steps x 32 lanes: for lane (g, t) of centroid 8 tile + g, features 16 step + 4t ..
    const float* half_norms;  // n_tiles x 8, scaled; infinite where there is no centroid
    const float* centroids;   // n_clusters x n_features
    u16* labels;              // n_rows; null where nothing is remembered
    float* until;             // n_rows
    u64* sums;                // 4 limbs x n_clusters x n_features; null where only weights are asked for
    u64* weights;             // 3 limbs x n_clusters: counts, then weights in two limbs
    i64* block_sums;          // blocks x n_clusters x n_features: what each block has added so far
    u32* unsure;              // blocks x unsure_room: the rows that the exact kernel has to look at
    u32* n_unsure;            // blocks
    u32 n_clusters;
    u32 n_tiles;
    u32 shared_fragments;     // where they are in shared memory, in 16 bytes
    u32 shared_norms;         // in 4 bytes, as those that follow
    u32 shared_counts;        // NOWHERE if rows are counted in global memory
    u32 shared_sums;          // low limbs, then high limbs; NOWHERE if they are added in global memory
    float lead_per_norm;
    float lead_min;
    float way;                // where marks are counted from
    u32 is_filled;            // labels are those of an earlier pass
};

struct LloydPass {
    const float* rows;        // n_rows x stride
    const u64* row_weights;   // null where rows have none
    const float* per_unit;    // n_features
    const u32* list;          // the rows to look at; null for all
    const u32* n_listed;
    const LloydSet* sets;
    u32 n_sets;
    u32 n_rows;
    u32 stride;
    u32 n_features;
    u32 n_shared_words;       // of shared memory, in 4 bytes: sums and counts, cleared before anything is added
    u32 shared_stage;         // where rows are staged, in 16 bytes; NOWHERE if there is no room for that
    u32 tiles_together;       // of a streamed set, in shared memory at a time
    u32 unsure_room;          // rows of a block in the list of unsure ones
    u32 has_one_limb;         // no sum of these rows needs more than 64 bits
    float scale;              // a power of two; float16 parts are of rows times this
    float per_scale;
    u32 padding;
};

static_assert(sizeof(LloydSet) == 120 && sizeof(LloydPass) == 96, "the host has the same structures");
