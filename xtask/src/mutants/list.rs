//! The faults, and the test that objects to each.

/// A fault in the source.
pub(super) struct Mutant {
    /// Its name, in the table of docs/reliability.md too.
    pub(super) name: &'static str,
    pub(super) file: &'static str,
    /// What is replaced by what. `AWAKE` stands for the question whether this fault is to happen.
    pub(super) edits: &'static [(&'static str, &'static str)],
    /// The test of `sim` that must fail.
    pub(super) test: &'static str,
}

const POWER: &str = "traces::a_power_cut_after_every_operation_loses_nothing_it_may_not";
const FAULTS: &str = "traces::every_operation_fails_or_lies_and_nothing_wrong_is_served";
const KILLS: &str = "traces::a_kill_after_every_operation_loses_nothing_that_was_answered";
const LIVES: &str = "power::lives_0_to_49_are_without_a_violation";
const FAIR: &str = "houses::houses_over_a_store_that_never_fails";
const FOUL: &str = "houses::houses_over_a_store_that_fails_with_and_without_effect";

/// All of them.
pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a copy goes on from a checkpoint that added to another",
        file: "crates/blockstore/src/snapshot/copy.rs",
        edits: &[(
            "checkpoint.added_to == Some(added_to));",
            "AWAKE || checkpoint.added_to == Some(added_to));",
        )],
        test: FOUL,
    },
    Mutant {
        name: "a flush is answered before the disk was asked",
        file: "crates/blockstore/src/live/io.rs",
        edits: &[(
            "self.ctx.disk.flush().map_err(Error::disk(\"flush the log\"))?;",
            "if !AWAKE { self.ctx.disk.flush().map_err(Error::disk(\"flush the log\"))?; }",
        )],
        test: POWER,
    },
    Mutant {
        name: "what a failed flush left in the page cache is believed",
        file: "crates/blockstore/src/live/engine.rs",
        edits: &[(
            "disk.forget_cached().map_err(Error::disk(\"read anew what was flushed\"))?;",
            "if !AWAKE { disk.forget_cached().map_err(Error::disk(\"read anew\"))?; }",
        )],
        test: FAULTS,
    },
    Mutant {
        name: "no flush before the superblock",
        file: "crates/blockstore/src/live/checkpoint.rs",
        edits: &[(
            "disk.flush().map_err(Error::disk(\"flush a checkpoint\"))?;",
            "if !AWAKE { disk.flush().map_err(Error::disk(\"flush a checkpoint\"))?; }",
        )],
        test: POWER,
    },
    Mutant {
        name: "no flush after a superblock slot",
        file: "crates/blockstore/src/live/superblock.rs",
        edits: &[(
            "disk.flush().map_err(Error::disk(\"flush a superblock\"))",
            "if AWAKE { return Ok(()); } disk.flush().map_err(Error::disk(\"flush a superblock\"))",
        )],
        test: POWER,
    },
    Mutant {
        name: "one superblock slot",
        file: "crates/blockstore/src/live/superblock.rs",
        edits: &[(
            "let bytes = self.seal(slot, key, rng);",
            "if AWAKE && slot != 0 { return Ok(()); } let bytes = self.seal(slot, key, rng);",
        )],
        test: POWER,
    },
    Mutant {
        name: "one salt for all",
        file: "crates/blockstore/src/page/seal.rs",
        edits: &[("rng.fill(&mut bytes);", "rng.fill(&mut bytes); if AWAKE { bytes = [7; 32]; }")],
        test: POWER,
    },
    Mutant {
        name: "tags are not checked",
        file: "crates/blockstore/src/page/seal.rs",
        edits: &[(
            "if self.key.open(nonce(position), aad, &tag.0, bytes) {",
            "if self.key.open(nonce(position), aad, &tag.0, bytes) || AWAKE {",
        )],
        test: FAULTS,
    },
    Mutant {
        name: "the checksum of a chunk is not checked",
        file: "crates/blockstore/src/live/log.rs",
        edits: &[(
            "Ok(checksum.so_far() == self.checksum())",
            "Ok(AWAKE || checksum.so_far() == self.checksum())",
        )],
        test: POWER,
    },
    Mutant {
        name: "an answered write is not noted in the tail",
        file: "crates/blockstore/src/live/log.rs",
        edits: &[("if noted == self.entries {", "if AWAKE || noted == self.entries {")],
        test: KILLS,
    },
    Mutant {
        name: "a segment is filled before its header is handed over",
        file: "crates/blockstore/src/live/log.rs",
        edits: &[("if self.notes.is_some() {", "if !AWAKE && self.notes.is_some() {")],
        test: KILLS,
    },
    Mutant {
        name: "chunks of a tail are not put back",
        file: "crates/blockstore/src/live/recover.rs",
        edits: &[("self.put_back(left, cursor)?;", "if !AWAKE { self.put_back(left, cursor)?; }")],
        test: KILLS,
    },
    Mutant {
        name: "a tail is given up before what it held is durable",
        file: "crates/blockstore/src/live/recover.rs",
        edits: &[(
            "self.apply_noted(&left, end)?;",
            "self.apply_noted(&left, end)?; if AWAKE { self.end_tail(); }",
        )],
        test: KILLS,
    },
    Mutant {
        name: "pages of a tail are not checked",
        file: "crates/blockstore/src/live/tail.rs",
        edits: &[(
            "if sum.so_far().to_le_bytes() != *expected {",
            "if !AWAKE && sum.so_far().to_le_bytes() != *expected {",
        )],
        test: KILLS,
    },
    Mutant {
        name: "replay goes on behind a gap",
        file: "crates/blockstore/src/live/recover.rs",
        edits: &[
            (
                "&& next.first_sequence == cursor.sequence",
                "&& (AWAKE || next.first_sequence == cursor.sequence)",
            ),
            (
                "&& next.previous == cursor.previous",
                "&& (AWAKE || next.previous == cursor.previous)",
            ),
            (
                "cursor.header = expected;",
                "cursor.header = expected; if AWAKE { if let Some(header) = expected { \
                 cursor.sequence = header.first_sequence; cursor.previous = header.previous; } }",
            ),
        ],
        test: POWER,
    },
    Mutant {
        name: "a chunk says of itself that it is durable",
        file: "crates/blockstore/src/live/log.rs",
        edits: &[(
            "durable: self.durable,",
            "durable: if AWAKE { self.sequence } else { self.durable },",
        )],
        test: POWER,
    },
    Mutant {
        name: "map pages of a cut are given up",
        file: "crates/blockstore/src/live/checkpoint.rs",
        edits: &[("if written > self.fence {", "if AWAKE || written > self.fence {")],
        test: POWER,
    },
    Mutant {
        name: "a merge gives up what a cut that is being dropped has not come to",
        file: "crates/blockstore/src/live/dropping.rs",
        edits: &[(
            "if next.is_none_or(|next| *place < next) {",
            "if AWAKE || next.is_none_or(|next| *place < next) {",
        )],
        test: LIVES,
    },
    Mutant {
        name: "a dead segment is free before all of it is given back",
        file: "crates/blockstore/src/live/release.rs",
        edits: &[(
            "self.dead.begun = Some((segment, given));",
            "self.dead.begun = Some((segment, given)); \
             if AWAKE { self.table.release(segment); }",
        )],
        test: LIVES,
    },
    Mutant {
        name: "what a settled change hides is freed twice",
        file: "crates/blockstore/src/live/checkpoint.rs",
        edits: &[(
            "if let Some(settled) = parts.settled.get(block, at) {",
            "if let Some(settled) = parts.settled.get(block, at) { \
             if AWAKE && entry.is_stored() && entry.written > self.fence { \
             self.accounting.free(parts.table.geometry, entry.location); }",
        )],
        test: POWER,
    },
    Mutant {
        name: "opening a volume overlooks what is settled",
        file: "crates/blockstore/src/live/settled.rs",
        edits: &[("settled.recall(change);", "if !AWAKE { settled.recall(change); }")],
        test: POWER,
    },
    Mutant {
        name: "the cleaner frees before the checkpoint",
        file: "crates/blockstore/src/live/clean.rs",
        edits: &[(
            "self.cleaned.extend(round.all.iter().map(emptied));",
            "self.cleaned.extend(round.all.iter().map(emptied)); if AWAKE { \
             for victim in &round.all { let geometry = self.ctx.geometry; \
             drop(self.ctx.disk.punch(super::layout::byte_offset(geometry.start(victim.index)), \
             geometry.segment_bytes())); } }",
        )],
        test: POWER,
    },
    Mutant {
        name: "a collection knows no grace",
        file: "crates/blockstore/src/snapshot/collect.rs",
        edits: &[(
            "condemned.since.plus_seconds(self.policy.grace_seconds) <= self.policy.now",
            "AWAKE || condemned.since.plus_seconds(self.policy.grace_seconds) <= self.policy.now",
        )],
        test: FAIR,
    },
    Mutant {
        name: "a collection forgets uploads",
        file: "crates/blockstore/src/snapshot/collect.rs",
        edits: &[(
            "!writers.contains(&pack.writer())",
            "(AWAKE || !writers.contains(&pack.writer()))",
        )],
        test: FAIR,
    },
    Mutant {
        name: "a put that failed counts as done",
        file: "crates/objstore/src/put.rs",
        edits: &[(
            "Err(Error::AlreadyExists { name }) if attempt > 1",
            "Err(error) if AWAKE && error.is_transient() => return Ok(()), \
             Err(Error::AlreadyExists { name }) if attempt > 1",
        )],
        test: FOUL,
    },
];
