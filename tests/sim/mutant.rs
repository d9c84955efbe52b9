//! Wrong variants: each breaks one promise, and the auditor must notice each.

macro_rules! mutants {
    ($($(#[doc = $says:literal])+ $name:ident,)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[doc = $says])+ $name,)+
        }

        impl Mutant {
            pub const ALL: &'static [Mutant] = &[$(Mutant::$name,)+];
        }
    };
}

mutants! {
    /// A settlement that comes a second time is charged a second time.
    ChargesTwice,
    /// A reserve takes half of what it answers.
    HoldsHalf,
    /// A reserve with an outdated view of its key is taken for one with the current view.
    AcceptsStale,
    /// A settlement is acknowledged and not done.
    LosesSettlements,
    /// The release of a hold whose reserve had no answer is not done.
    LeaksHolds,
    /// The ledger's clock stands still: no window ever rolls.
    NeverRolls,
    /// The ledger's windows start an hour early.
    RollsEarly,
    /// Holds that expire are given back.
    RefundsExpired,
    /// A stop is acknowledged and not done.
    IgnoresStops,
    /// Some reserves are refused although there is money.
    RefusesForNothing,
    /// A call whose cost is not known is free.
    RefundsDoubt,
    /// A call that is cut is free.
    CutsAreFree,
    /// A call whose client leaves is free.
    HangUpsAreFree,
    /// Calls go out while the ledger does not answer.
    FailsOpen,
    /// A call that breaks off is sent again.
    SendsTwice,
    /// The body goes out as it came, whatever the hold pays for.
    NeverClamps,
    /// A nano-dollar is missing.
    RoundsDown,
    /// Errors that the provider gives for free are charged.
    ChargesErrors,
    /// A call that was never sent is charged.
    ChargesUnsent,
    /// A call goes out before its hold is there.
    SendsBeforeHolding,
    /// The cut comes two hundred tokens late.
    CutsLate,
}
