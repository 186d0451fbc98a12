//! Where the viewers of a session run: in this process, or in several others.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::cli::PROCESSES_MAX;
use crate::clock::Moment;
use crate::descriptors::{self, Need};
use crate::error::HarnessError;
use crate::process::{Process, ProcessGroup};
use crate::session::Party;
use crate::swarm::{Bench, Lookout, Order, Share, Snapshot, Swarm, SwarmConfig, SwarmResult};
use crate::viewer_processes::{ViewerProcesses, WaitingProcesses};

/// A place for viewers, before the first of them.
pub(super) enum Venue {
    Here,
    Elsewhere(WaitingProcesses),
}

/// The viewers, wherever they are.
pub(super) enum Viewers {
    Here(Swarm, Bench),
    Elsewhere(ViewerProcesses),
}

impl Venue {
    /// Starts as many processes as the party asks for, and makes sure that the fullest of them may open its sockets.
    pub(super) fn open(
        party: &Party,
        bench: &Bench,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self, HarnessError> {
        if party.processes == 1 {
            return Ok(Self::Here);
        }
        let need = Need {
            viewers: party.seating.viewers.into(),
            posters: party.posters.into(),
            processes: party.processes,
            processes_max: PROCESSES_MAX,
        };
        // Rooms that stay whole make shares uneven, so an even division that fits does not say that this one does.
        let fullest = |processes: u16| {
            let shares = party.seating.per_process(party.threads, processes.into());
            shares.into_iter().max().unwrap_or_default().into()
        };
        descriptors::reserve(&need, fullest)?;
        WaitingProcesses::spawn(party.processes.into(), bench, stop).map(Self::Elsewhere)
    }

    /// This process and those of the viewers.
    pub(super) fn processes(&self) -> ProcessGroup {
        let elsewhere = match self {
            Self::Here => Vec::new(),
            Self::Elsewhere(waiting) => waiting.processes(),
        };
        Process::this().into_iter().chain(elsewhere).collect()
    }

    /// Starts the viewers; they begin to connect at once.
    pub(super) fn admit(
        self,
        config: &SwarmConfig,
        party: &Party,
        bench: &Bench,
    ) -> Result<Viewers, HarnessError> {
        let seating = &party.seating;
        match self {
            Self::Here => Swarm::start(config, seating, Share::WHOLE, bench)
                .map(|swarm| Viewers::Here(swarm, bench.clone())),
            Self::Elsewhere(waiting) => waiting.start(config, seating).map(Viewers::Elsewhere),
        }
    }
}

impl Viewers {
    pub(super) fn snapshot(&self) -> Snapshot {
        self.lookout().snapshot()
    }

    pub(super) fn lookout(&self) -> Lookout {
        match self {
            Self::Here(swarm, _) => swarm.lookout(),
            Self::Elsewhere(processes) => processes.lookout(),
        }
    }

    pub(super) fn order(&self, order: Order) {
        match self {
            Self::Here(swarm, _) => swarm.order(order),
            Self::Elsewhere(processes) => processes.order(order),
        }
    }

    /// Comments scheduled from this moment on belong to the stage in which viewers stall.
    pub(super) fn stall_from(&self, moment: Moment) {
        match self {
            Self::Here(_, bench) => bench.judge.set_stall(moment),
            Self::Elsewhere(processes) => processes.stall_from(moment),
        }
    }

    /// Whether some of them have failed.
    pub(super) fn are_lost(&self) -> bool {
        match self {
            Self::Here(swarm, _) => swarm.is_broken(),
            Self::Elsewhere(processes) => processes.is_broken(),
        }
    }

    pub(super) fn finish(self) -> Result<SwarmResult, HarnessError> {
        match self {
            Self::Here(swarm, _) => swarm.finish(),
            Self::Elsewhere(processes) => processes.finish(),
        }
    }
}
