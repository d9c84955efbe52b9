//! What schedules went through, for the report; a test demands that all of it happened.

use crate::audit::Taken;
use loopers::ledger::Settled;

macro_rules! counts {
    ($($name:ident)+) => {
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $(pub $name: u64,)+
        }

        impl Counts {
            pub fn add(&mut self, other: &Counts) {
                $(self.$name += other.$name;)+
            }

            pub fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)+]
            }
        }
    };
}

counts! {
    schedules steps calls held refused_money refused_steps refused_stopped stale spent refused_ledger sent completed clamped
    cut_by_meter cut_by_operator cut_by_deadline hang_ups gone_while_admitted broken unreachable free_errors
    applied corrected already unknown expired overruns crashes restarts outages
    requests_lost answers_lost answers_late repeated delayed refused_by_network leaps clock_steps skews edits sweeps keeper_checks
    invoice charged debt
}

impl Counts {
    pub fn verdict(&mut self, taken: &Taken) {
        *match taken {
            Taken::Held(_) => &mut self.held,
            Taken::NoMoney => &mut self.refused_money,
            Taken::NoSteps => &mut self.refused_steps,
            Taken::Stopped => &mut self.refused_stopped,
            Taken::Stale => &mut self.stale,
            Taken::Spent => &mut self.spent,
        } += 1;
    }

    pub fn settled(&mut self, settled: &Settled) {
        *match settled {
            Settled::Applied { charged, held } => {
                self.overruns += u64::from(charged > held);
                &mut self.applied
            }
            Settled::Corrected { .. } => &mut self.corrected,
            Settled::Already { .. } => &mut self.already,
            Settled::Unknown => &mut self.unknown,
        } += 1;
    }
}
