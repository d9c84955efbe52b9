//! Random loads whose journals must give back the very books.

use super::*;

/// SplitMix64: the same seed gives the same run.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// The note and the time of holds whose gateway is killed before it has written their lines.
const KILLED: &str = "killed";
const SHORT_MS: u64 = 1_000;

/// One ledger behind two gateways, each with a journal of its own.
struct Load {
    rng: Rng,
    clock: Clock,
    books: Ledger,
    gateways: Vec<Ledger>,
    nodes: Vec<NodeId>,
    hashes: Vec<KeyHash>,
    open: Vec<Arc<HoldRef>>,
    ended: Ends,
    lines: Vec<Arc<Lossy>>,
    /// Settlements without an answer, and whose they are.
    owed: Vec<(usize, Ends)>,
}

impl Load {
    async fn new(seed: u64, state: &Path) -> Load {
        // A second in a minute that has begun in the last month, so that every window can roll.
        let mut rng = Rng(seed);
        let clock = Clock::manual(Clock::System.now() - rng.below(20_000_000) as Millis);
        let books = memory(&clock);
        let (mut gateways, mut lines) = (Vec::new(), Vec::new());
        for writer in ["00000000000000aa", "00000000000000bb"] {
            let folder = state.join(format!("gateway-{writer}"));
            std::fs::create_dir_all(&folder).unwrap();
            let recorder = Arc::new(Journal::of_gateway(&folder, writer, KEEP).unwrap());
            let line = Lossy::to(&books);
            let behind = Arc::new(Ledger::Carried(Carried(line.clone())));
            gateways.push(Ledger::Journalled(Journalled { books: behind, recorder, patience: PATIENCE }));
            lines.push(line);
        }
        let recorder = Arc::new(Journal::of_operator(&state.join("operator.jsonl")));
        let operator = Ledger::Journalled(Journalled { books: Arc::new(books.clone()), recorder, patience: PATIENCE });
        let (nodes, hashes, owed) = (Vec::new(), Vec::new(), Vec::new());
        let (open, ended) = (Vec::new(), Ends::new());
        let mut load = Load { rng, clock, books, gateways, nodes, hashes, open, ended, lines, owed };
        load.people(&operator).await;
        load.gateways.push(operator);
        load
    }

    async fn people(&mut self, operator: &Ledger) {
        let mut limits = Limits::default();
        limits.0[Window::Daily.index()] = Some(usd(1_000_000));
        for (i, parent) in [None, Some(0), None].into_iter().enumerate() {
            let id = NodeId::from(format!("t_{i}").as_str());
            let parent = parent.map(|at: usize| self.nodes[at].clone());
            let name = format!("team {i}");
            let team =
                TeamRecord { id: id.clone(), name, parent, created_at: i as Millis, state: State::Active, limits };
            operator.create_team(&team).await.unwrap();
            self.nodes.push(id);
        }
        for (i, team) in [Some(0), Some(1), Some(1), Some(2), None].into_iter().enumerate() {
            let id = NodeId::from(format!("k_{i}").as_str());
            let hash = KeyHash::from_hex(&format!("{i:064x}")).unwrap();
            let key = KeyRecord {
                id: id.clone(),
                name: format!("key {i}"),
                hash: hash.hex(),
                team: team.map(|at: usize| self.nodes[at].clone()),
                created_at: 10 + i as Millis,
                expires_at: None,
                state: State::Active,
                limits: Limits::default(),
                policy: Policy::default(),
            };
            operator.create_key(&key).await.unwrap();
            self.nodes.push(id);
            self.hashes.push(hash);
        }
    }

    async fn step(&mut self) {
        let at = self.rng.below(2) as usize;
        let gateway = self.gateways[at].clone();
        match self.rng.below(23) {
            0..=8 => self.reserve(&gateway).await,
            9..=15 => self.settle(at).await,
            16 => drop(gateway.sweep(10).await.unwrap()),
            17 => self.clock.set(self.clock.now() + self.rng.below(4_000_000) as Millis),
            18 => self.edit().await,
            19 => self.session().await,
            20 => self.release().await,
            21 => self.killed().await,
            _ => self.settle_owed().await,
        }
    }

    /// A gateway dies between a hold and its line. Nobody can settle it: it expires.
    async fn killed(&mut self) {
        let hash = self.hashes[self.rng.below(5) as usize];
        let view: KeyView = self.books.key_by_hash(&hash).await.unwrap().unwrap();
        let most = usd(self.rng.below(3_000));
        let ask = Reserve {
            hold: HoldId::random().unwrap(),
            view: Arc::new(view),
            session: None,
            least: most,
            most,
            ttl_ms: SHORT_MS,
            note: KILLED.into(),
        };
        self.books.reserve(&ask).await.unwrap();
    }

    async fn reserve(&mut self, gateway: &Ledger) {
        let hash = self.hashes[self.rng.below(5) as usize];
        let view: KeyView = gateway.key_by_hash(&hash).await.unwrap().unwrap();
        let session = (self.rng.below(2) == 0).then(|| SessionAsk {
            id: SESSIONS[self.rng.below(3) as usize].into(),
            budget: (self.rng.below(3) == 0).then(|| usd(50_000 + self.rng.below(100_000))),
            steps: (self.rng.below(3) == 0).then(|| 20 + self.rng.below(60)),
        });
        let most = self.rng.below(3_000);
        let ask = Reserve {
            hold: HoldId::random().unwrap(),
            view: Arc::new(view),
            session,
            least: usd(most / 2),
            most: usd(most),
            ttl_ms: 1_000 + self.rng.below(8_000_000),
            note: "openai/gpt".into(),
        };
        if let Verdict::Held(_) = gateway.reserve(&ask).await.unwrap() {
            self.open.push(Arc::new(ask.hold_ref()));
        }
    }

    async fn settle(&mut self, at: usize) {
        if self.open.is_empty() {
            return;
        }
        // Lost: whoever has it to settle, and nobody else has, will send it again.
        let fate = self.rng.below(6);
        let lost = match fate {
            0 => Some(&self.lines[at].requests),
            1 => Some(&self.lines[at].answers),
            _ => None,
        };
        let mut ends = Ends::new();
        for _ in 0..if lost.is_some() { 1 } else { 1 + self.rng.below(3) } {
            if self.open.is_empty() {
                break;
            }
            let hold = self.open.swap_remove(self.rng.below(self.open.len() as u64) as usize);
            // Now and then more than was held.
            let charge = match self.rng.below(5) {
                0 if lost.is_none() => Charge::Full,
                _ => Charge::Exact(usd(self.rng.below(3_100))),
            };
            ends.push((hold, charge));
        }
        if let Some(lost) = lost {
            lost.fetch_add(1, Ordering::SeqCst);
        } else if self.rng.below(2) == 0 && !self.ended.is_empty() {
            // A second time, as from a spool that still had it.
            ends.push(self.ended[self.rng.below(self.ended.len() as u64) as usize].clone());
        }
        let is_lost = lost.is_some();
        let done = self.gateways[at].settle_all(&ends).await;
        assert!(done.iter().all(|done| done.is_err() == is_lost), "{done:?}");
        if is_lost {
            self.owed.push((at, ends));
        } else {
            self.ended.extend(ends);
        }
    }

    /// What has no answer is sent again; it may get none again.
    async fn settle_owed(&mut self) {
        for (at, ends) in std::mem::take(&mut self.owed) {
            let lost = self.rng.below(3) == 0;
            self.lines[at].answers.fetch_add(usize::from(lost), Ordering::SeqCst);
            let done = self.gateways[at].settle_all(&ends).await;
            assert!(done.iter().all(|done| done.is_err() == lost), "{done:?}");
            if lost {
                self.owed.push((at, ends));
            }
        }
    }

    /// An operator corrects what expired, or ends what is open.
    async fn release(&mut self) {
        let holds = self.books.holds(10).await.unwrap();
        let Some(hold) = holds.first() else { return };
        // A hold without a line never went out: until it is found due, nobody can know that it cost anything.
        let never_went_out = hold.note == KILLED && hold.state == HoldState::Open;
        let cost = usd(if never_went_out { 0 } else { self.rng.below(hold.amount.nano() + 1) });
        let at = self.rng.below(3) as usize;
        match self.rng.below(12) {
            // The ledger does not answer, however often it is asked: nothing was done, and nothing is written.
            0 if at < 2 => {
                self.lines[at].requests.fetch_add(6, Ordering::SeqCst);
                self.gateways[at].settle(&hold.at, Charge::Exact(cost)).await.unwrap_err();
                return;
            }
            // Its first answer is lost.
            1 if at < 2 => drop(self.lines[at].answers.fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
        // By a command, or through a gateway's admin listener; whoever else has it to settle finds it ended.
        self.gateways[at].settle(&hold.at, Charge::Exact(cost)).await.unwrap();
    }

    async fn edit(&mut self) {
        let node = self.nodes[self.rng.below(8) as usize].clone();
        let limit = usd(500_000 + self.rng.below(1_000_000));
        let edit = Edit::Limits(vec![(Window::ALL[self.rng.below(5) as usize], Some(limit))]);
        self.gateways[2].edit(&node, &edit).await.unwrap();
    }

    async fn session(&mut self) {
        let key = self.nodes[3 + self.rng.below(5) as usize].clone();
        let session = SESSIONS[self.rng.below(3) as usize];
        let state = if self.rng.below(3) == 0 { State::Paused } else { State::Active };
        self.gateways[2].set_session_state(&key, session, state).await.unwrap();
    }

    async fn sessions(&self, ledger: &Ledger) -> Vec<Option<SessionStatus>> {
        let mut sessions = Vec::new();
        for key in &self.nodes[3..] {
            for session in SESSIONS {
                sessions.push(ledger.session(key, session).await.unwrap());
            }
        }
        sessions
    }

    /// Both ledgers have the same books, to the nano-dollar, in every level and window.
    async fn assert_same(&self, other: &Ledger) {
        assert_eq!(self.books.nodes().await, other.nodes().await);
        for id in &self.nodes {
            assert_eq!(self.books.status(id).await, other.status(id).await);
            assert_eq!(self.books.record(id).await, other.record(id).await);
        }
        assert_eq!(self.sessions(&self.books).await, self.sessions(other).await);
        let mut holds = [self.books.holds(10_000).await.unwrap(), other.holds(10_000).await.unwrap()];
        for list in &mut holds {
            list.sort_by(|a, b| a.at.hold.cmp(&b.at.hold));
        }
        assert_eq!(holds[0].len(), holds[1].len());
        for (here, there) in holds[0].iter().zip(&holds[1]) {
            assert_eq!(here, there);
        }
    }
}

#[tokio::test]
async fn a_random_load_is_rebuilt_to_the_nano_dollar() {
    for seed in 0..40 {
        let state = tempfile::tempdir().unwrap();
        let mut load = Load::new(seed, state.path()).await;
        for _ in 0..400 {
            load.step().await;
        }
        load.clock.set(load.clock.now() + SHORT_MS as Millis);
        load.gateways[0].sweep(100_000).await.unwrap();
        // The journal knows already of what is still to be settled.
        for (_, ends) in std::mem::take(&mut load.owed) {
            for done in load.books.settle_all(&ends).await {
                done.unwrap();
            }
        }
        let files = Files::find(&[state.path().to_path_buf()]).unwrap();
        assert_eq!((files.writers, files.complete_since), (2, None));
        assert!(files.paths.len() > 4, "the files rotate");
        let rebuilt = rebuild(&files, &Calendar::utc(), load.clock.now()).unwrap();
        assert!(rebuilt.holds > 100 && rebuilt.without_record.is_empty() && rebuilt.paused.is_empty());
        let other = memory(&load.clock);
        other.restore(&rebuilt.books, &other.halt(&[]).await.unwrap()).await.unwrap();
        load.assert_same(&other).await;
        // What is open is settled there as it would have been here.
        for at in load.open.clone() {
            let charge = Charge::Exact(usd(7));
            assert_eq!(load.books.settle(&at, charge).await, other.settle(&at, charge).await, "{at:?}");
        }
        load.assert_same(&other).await;
    }
}
