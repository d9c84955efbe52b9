//! Sessions: caps in the same step as all others, that a client can only tighten.

scripts! {
    /// The least ever asked for stays; to ask for more or for nothing changes nothing.
    b24_a_session_is_only_tightened = "
        key bot
        reserve a bot 5 session=s budget=20 steps=9   -> held 5 left 15 session
        show bot/s                                    -> active 0+5 of 20 steps 1/9
        reserve b bot 5 session=s budget=50 steps=50  -> held 5 left 10 session
        show bot/s                                    -> active 0+10 of 20 steps 2/9
        reserve c bot 11 session=s                    -> refused session limit 20 spent 0 held 10
        reserve c bot 4 session=s budget=16           -> held 4 left 2 session
        reserve d bot 3 session=s budget=99           -> refused session limit 16 spent 0 held 14
        reserve d bot 1..9 session=s steps=4          -> held 2 left 0 session
        reserve e bot 0 session=s steps=99            -> refused steps 4/4
        show bot/s                                    -> active 0+16 of 16 steps 4/4
        settle a 1                                    -> applied 1 of 5
        reserve e bot 0 session=s                     -> refused steps 4/4
        show bot/s                                    -> active 1+11 of 16 steps 4/4";

    /// A call that is refused has not tightened anything.
    b24_a_refused_call_tightens_nothing = "
        key bot daily=100
        reserve a bot 10 session=s budget=50 steps=5  -> held 10
        reserve b bot 1 session=s budget=10           -> refused session limit 10 spent 0 held 10
        reserve b bot 1 session=s steps=1             -> refused steps 1/1
        reserve b bot 95 session=s budget=150 steps=3 -> refused session limit 50 spent 0 held 10
        reserve b bot 0 session=s budget=9            -> refused session limit 9 spent 0 held 10
        show bot/s                                    -> active 0+10 of 50 steps 1/5
        reserve b bot 40 session=s                    -> held 40 left 0 session";

    /// A fresh session id is a fresh session, but the key's money is the same.
    b24_fresh_session_ids_do_not_make_money = "
        key bot daily=10
        reserve a bot 4 session=s1 budget=5           -> held 4 left 1 session
        reserve b bot 4 session=s2 budget=5           -> held 4 left 1 session
        reserve c bot 4 session=s3 budget=5           -> refused bot.daily limit 10 spent 0 held 8
        show bot/s3                                   -> none
        reserve c bot 1..4 session=s3 budget=5        -> held 2 left 0 key.daily
        show bot/s3                                   -> active 0+2 of 5 steps 1/none";

    /// The same session id under two keys is two sessions.
    b24_sessions_belong_to_a_key = "
        team org
        key one in org
        key two in org
        reserve a one 5 session=s budget=5 steps=1    -> held 5
        reserve b one 1 session=s                     -> refused steps 1/1
        reserve b two 7 session=s                     -> held 7 left none
        stop one/s killed
        reserve c two 1 session=s                     -> held 1
        show one/s                                    -> killed 0+5 of 5 steps 1/1
        show two/s                                    -> active 0+8 of none steps 2/none";

    /// A session has no window: what it spent stays, over every edge.
    b24_a_session_budget_has_no_window = "
        at 2027-12-31T23:59:30Z
        key bot
        reserve a bot 6 session=s budget=10           -> held 6
        settle a 6
        at 2028-01-01T00:00:30Z
        reserve b bot 5 session=s                     -> refused session limit 10 spent 6 held 0
        reserve b bot 4 session=s                     -> held 4 left 0 session
        at 2028-01-20T00:00:30Z
        settle b 3                                    -> applied 3 of 4
        show bot/s                                    -> active 9+0 of 10 steps 2/none";

    /// Steps count calls that were let through, whatever became of them.
    b24_steps_count_calls = "
        key bot
        reserve a bot 1 session=s steps=3             -> held 1
        settle a 0
        reserve b bot 1 session=s ttl=10s             -> held 1
        reserve b bot 1 session=s                     -> held 1
        wait 11s
        sweep 10                                      -> 1 charged 1
        settle b 0                                    -> corrected 0 from 1
        reserve c bot 1                               -> held 1
        reserve d bot 1 session=s                     -> held 1
        reserve e bot 1 session=s                     -> refused steps 3/3
        show bot/s                                    -> active 0+1 of none steps 3/3";

    /// A session can be stopped before its first call, while it runs, and be resumed.
    b19_a_session_is_stopped_and_resumed = "
        key bot
        stop bot/early paused
        reserve a bot 1 session=early                 -> stopped session early paused
        stop bot/early active
        reserve a bot 1 session=early budget=3        -> held 1 left 2 session
        standing a                                    -> good
        stop bot/early killed
        standing a                                    -> stopped:killed
        reserve b bot 1 session=early                 -> stopped session early killed
        reserve c bot 1 session=other                 -> held 1
        standing a c                                  -> stopped:killed good
        settle a 1                                    -> applied 1 of 1
        show bot/early                                -> killed 1+0 of 3 steps 1/none
        stop bot/early active
        reserve b bot 2 session=early                 -> held 2 left 0 session";

    /// Sessions are remembered for 30 days after their last use, and with a hold open for longer.
    sessions_are_remembered = "
        key bot
        reserve a bot 5 session=s budget=20           -> held 5
        settle a 5
        reserve b bot 5 session=open budget=20 ttl=70d -> held 5
        wait 29d
        show bot/s                                    -> active 5+0 of 20 steps 1/none
        reserve c bot 6 session=s                     -> held 6 left 9 session
        settle c 6
        wait 29d
        reserve d bot 9 session=s                     -> held 9 left 0 session
        show bot/s                                    -> active 11+9 of 20 steps 3/none
        show bot/open                                 -> active 0+5 of 20 steps 1/none
        settle b 4                                    -> applied 4 of 5
        show bot/open                                 -> active 4+0 of 20 steps 1/none
        reserve e bot 17 session=open                 -> refused session limit 20 spent 4 held 0";

    /// A session knows all of its key's teams, too: one refusal anywhere and it counts no step.
    b16_a_session_takes_nothing_when_a_team_refuses = "
        team root hourly=10
        team leaf under root
        key bot in leaf
        reserve a bot 8 session=s budget=100 steps=10 -> held 8 left 2 team.hourly
        reserve b bot 3 session=s                     -> refused root.hourly limit 10 spent 0 held 8
        show bot/s                                    -> active 0+8 of 100 steps 1/10
        reserve b bot 2 session=s                     -> held 2
        show bot/s                                    -> active 0+10 of 100 steps 2/10";

    /// Thirty days after its last use a session is a new one.
    an_old_session_is_forgotten = "
        key bot
        reserve a bot 5 session=s budget=5            -> held 5 left 0 session
        settle a 5
        wait 31d
        reserve b bot 5 session=s budget=9            -> held 5 left 4 session
        show bot/s                                    -> active 0+5 of 9 steps 1/none";

    /// A late correction of a call of the old session is no business of the new one.
    a_correction_does_not_reach_a_new_session_of_the_same_id = "
        key bot
        reserve a bot 10 session=s ttl=60s            -> held 10
        wait 61s
        sweep 10                                      -> 1 charged 10
        wait 32d
        reserve b bot 5 session=s budget=50           -> held 5 left 45 session
        settle b 5
        settle a 0                                    -> corrected 0 from 10
        show bot/s                                    -> active 5+0 of 50 steps 1/none
        books bot                                     -> all 5+0 total 5";
}
