//! Reserve: the order of its checks, one row of the specification after the other.

scripts! {
    /// Row 1: the same id is one hold; its grant does not change.
    b23_a_reserve_executed_twice_is_one_hold = "
        team org monthly=1000
        key bot in org daily=100
        reserve a bot 10..30 session=s steps=5     -> held 30 left 70 key.daily
        reserve a bot 10..30 session=s steps=5     -> held 30
        reserve a bot 99 session=s steps=5         -> held 30     # whatever it asks for now
        books bot                                  -> all 0+30 total 0
        books org                                  -> all 0+30 total 0
        show bot/s                                 -> active 0+30 of none steps 1/5
        holds                                      -> a open 30
        settle a 30                                -> applied 30 of 30
        books bot                                  -> all 30+0 total 30";

    /// Row 1: a hold that has ended is not taken again.
    b23_a_reserve_after_its_own_settlement_takes_nothing = "
        key bot daily=100
        reserve a bot 10         -> held 10
        settle a 4               -> applied 4 of 10
        reserve a bot 10         -> spent
        reserve b bot 10 ttl=60s -> held 10
        wait 61s
        sweep 10                 -> 1 charged 10
        reserve b bot 10         -> spent
        settle b 3               -> corrected 3 from 10
        reserve b bot 10         -> spent
        window bot daily         -> 2027-03-10T00:00:00Z to 2027-03-11T00:00:00Z limit 100
        books bot                -> 0+0 7+0 7+0 7+0 7+0 total 7";

    /// Row 1 before row 2: a repeated call with an old view is still the same hold, a settled one still spent.
    b23_the_hold_is_looked_at_before_the_view = "
        key bot daily=100
        reserve a bot 10         -> held 10
        reserve b bot 10         -> held 10
        settle b 10              -> applied 10 of 10
        edit bot daily=90
        reserve a bot 10         -> held 10
        reserve b bot 10         -> spent
        reserve c bot 10         -> stale
        pause bot
        reserve a bot 10         -> held 10
        books bot                -> all 10+10 total 10";

    /// Row 1: an open hold past its time is still open until a sweep ends it.
    a_hold_past_its_time_is_open_until_it_is_swept = "
        key bot daily=100
        reserve a bot 10 ttl=60s -> held 10
        wait 61s
        reserve a bot 10         -> held 10
        settle a 6               -> applied 6 of 10
        sweep 10                 -> 0 charged 0
        books bot                -> 0+0 6+0 6+0 6+0 6+0 total 6";

    /// Row 2 before row 3: an old view is told so, and only a new one hears why it may not spend.
    b19_an_old_view_is_stale_whatever_the_change = "
        team org
        key bot in org daily=100
        edit bot daily=50
        reserve a bot 10         -> stale
        lookup bot               -> ok
        reserve a bot 60         -> refused bot.daily limit 50 spent 0 held 0
        reserve a bot 10         -> held 10 left 40 key.daily
        pause bot
        reserve b bot 10         -> stale
        lookup bot               -> ok
        reserve b bot 10         -> stopped bot paused
        resume bot
        reserve b bot 10         -> stale
        lookup bot               -> ok
        reserve b bot 10         -> held 10
        kill bot
        reserve c bot 10         -> stale
        lookup bot               -> ok
        reserve c bot 10         -> stopped bot killed
        resume bot
        rotate bot
        reserve c bot 10         -> stale
        lookup bot               -> ok
        reserve c bot 10         -> held 10
        revoke bot
        reserve d bot 10         -> stale
        lookup bot               -> ok
        reserve d bot 10         -> stopped bot revoked
        books bot                -> all 0+30 total 0
        books org                -> all 0+30 total 0";

    /// Teams are read in the step itself: a view of the key says nothing about them.
    b19_a_change_of_a_team_bites_at_once_and_makes_no_view_old = "
        team org daily=100
        team unit under org
        key bot in unit
        reserve a bot 10         -> held 10 left 90 team.daily
        pause org
        reserve b bot 10         -> stopped org paused
        resume org
        kill unit
        reserve b bot 10         -> stopped unit killed
        resume unit
        edit org daily=15
        reserve b bot 10         -> refused org.daily limit 15 spent 0 held 10
        edit unit hourly=3
        reserve b bot 1..10      -> refused unit.hourly limit 3 spent 0 held 10
        edit unit hourly=none
        edit org daily=20
        reserve b bot 10         -> held 10 left 0 team.daily";

    /// Row 3: key, team, parent, root, session; the first that is not active answers.
    b19_the_first_stopped_of_the_chain_answers = "
        team root
        team mid under root
        team leaf under mid
        key bot in leaf
        stop bot/s paused
        reserve a bot 1 session=s -> stopped session s paused
        kill root
        reserve a bot 1 session=s -> stopped root killed
        pause mid
        reserve a bot 1 session=s -> stopped mid paused
        kill leaf
        reserve a bot 1 session=s -> stopped leaf killed
        pause bot
        lookup bot
        reserve a bot 1 session=s -> stopped bot paused
        resume bot
        lookup bot
        resume leaf
        resume mid
        resume root
        reserve a bot 1 session=t -> held 1
        reserve b bot 1           -> held 1
        reserve c bot 1 session=s -> stopped session s paused
        stop bot/s active
        reserve c bot 1 session=s -> held 1";

    /// Row 3: stopped before expired, expired before any money.
    an_expired_key_is_refused_after_the_states_and_before_the_money = "
        team org
        key bot in org daily=5 expires=60s
        reserve a bot 5 session=s steps=1  -> held 5
        wait 59s
        reserve b bot 9                    -> refused bot.daily limit 5 spent 0 held 5
        wait 2s
        reserve b bot 9                    -> expired 2027-03-10T12:35:20Z
        reserve b bot 0                    -> expired
        reserve b bot 1 session=s steps=1  -> expired
        pause org
        reserve b bot 1                    -> stopped org paused
        settle a 2                         -> applied 2 of 5
        books bot                          -> 0+0 2+0 2+0 2+0 2+0 total 2";

    /// Rows 4 and 5: steps, session budget, then key before team, minute before month.
    b24_steps_then_session_budget_then_nodes = "
        team org minute=1
        key bot in org monthly=2
        reserve a bot 1 session=s budget=1 steps=1 -> held 1 left 0 session
        reserve b bot 2 session=s                  -> refused steps 1/1
        reserve b bot 2 session=t budget=1         -> refused session limit 1 spent 0 held 0
        reserve b bot 2 session=t budget=2         -> refused bot.monthly limit 2 spent 0 held 1
        reserve b bot 1 session=t budget=2         -> refused org.minute limit 1 spent 0 held 1
        show bot/t                                 -> none";

    /// Row 5: within a node the shortest window answers first, and the key before its teams.
    the_first_limit_without_room_answers = "
        team root minute=3 hourly=3 daily=3 weekly=3 monthly=3
        team leaf under root weekly=3
        key bot in leaf daily=3 monthly=3
        reserve a bot 4 -> refused bot.daily limit 3 spent 0 held 0 until 2027-03-11T00:00:00Z
        edit bot daily=none
        lookup bot
        reserve a bot 4 -> refused bot.monthly limit 3 spent 0 held 0 until 2027-04-01T00:00:00Z
        edit bot monthly=none
        lookup bot
        reserve a bot 4 -> refused leaf.weekly limit 3 spent 0 held 0 until 2027-03-15T00:00:00Z
        edit leaf weekly=none
        reserve a bot 4 -> refused root.minute limit 3 spent 0 held 0 until 2027-03-10T12:35:00Z
        edit root minute=none
        reserve a bot 4 -> refused root.hourly limit 3 spent 0 held 0 until 2027-03-10T13:00:00Z
        edit root hourly=none
        reserve a bot 4 -> refused root.daily limit 3 spent 0 held 0
        edit root daily=none weekly=none
        reserve a bot 4 -> refused root.monthly limit 3 spent 0 held 0
        edit root monthly=none
        reserve a bot 4 -> held 4 left none";
}
