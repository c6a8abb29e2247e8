//! The protocol of retire, reopen, fork and full tables as a small model, in which every order of
//! events is tried: two senders, one receiver that retires and opens again, one fork.
//!
//! Nothing of the library runs here. What is checked is the idea: nothing that a sender was told is
//! sent is lost, nothing comes twice, each sender's messages come in order, and nobody waits for ever.
//! Each rule that the idea depends on is then broken, and the model has to find out.

use std::collections::{HashMap, VecDeque};

/// How many messages each sender has.
const MESSAGES: u8 = 3;
/// How many an inbox can hold.
const QUEUE: usize = 2;
/// How many descriptors the receiver's table has room for.
const TABLE: u8 = 1;

/// A message: its sender, and which of the sender's it is.
type Message = (u8, u8);

/// What a version of the protocol does.
#[derive(Clone, Copy)]
struct Rules {
    /// Retiring shuts the inbox for senders before the last look into it.
    shuts_before_the_last_look: bool,
    /// Receiving looks whether a message fits before it takes it.
    looks_before_taking: bool,
    /// A new inbox is opened only when the old one is empty.
    drains_before_reopening: bool,
    /// Retiring shuts the open file, and not only this process's copy of it.
    shuts_for_the_child_too: bool,
    /// A send whose inbox was shut is made again only if it was not queued.
    repeats_only_what_failed: bool,
}

const GOOD: Rules = Rules {
    shuts_before_the_last_look: true,
    looks_before_taking: true,
    drains_before_reopening: true,
    shuts_for_the_child_too: true,
    repeats_only_what_failed: true,
};

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Inbox {
    queue: VecDeque<Message>,
    /// Sending fails.
    shut: bool,
    /// The receiver will not look into it again.
    left: bool,
    /// The child has a copy of both ends.
    inherited: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Sender {
    /// The inbox that it has a link to.
    link: Option<usize>,
    next: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct State {
    inboxes: Vec<Inbox>,
    /// Where the address leads.
    address: Option<usize>,
    senders: [Sender; 2],
    received: Vec<Message>,
    /// How many descriptors the program has not closed yet.
    table: u8,
    retiring: bool,
    forked: bool,
}

/// Is given each change that may come next.
type Push<'a> = dyn FnMut(&dyn Fn(&mut State)) + 'a;

impl State {
    fn first() -> Self {
        State {
            inboxes: vec![Inbox::default()],
            address: Some(0),
            ..State::default()
        }
    }

    /// All states that may come next.
    fn next(&self, rules: Rules) -> Vec<State> {
        let mut all = Vec::new();
        let mut push = |change: &dyn Fn(&mut State)| {
            let mut state = self.clone();
            change(&mut state);
            all.push(state);
        };
        for (who, sender) in self.senders.iter().enumerate() {
            if sender.next == MESSAGES {
                continue;
            }
            let message = (who as u8, sender.next);
            match sender.link {
                None if self.address.is_some() => {
                    push(&|state| state.senders[who].link = state.address);
                }
                None => {}
                Some(at) if self.inboxes[at].shut => {
                    push(&|state| state.senders[who].link = None);
                }
                Some(at) if self.inboxes[at].queue.len() < QUEUE => push(&|state| {
                    state.inboxes[at].queue.push_back(message);
                    // Told of success, unless it takes a late failure for one of this message.
                    if rules.repeats_only_what_failed || !state.retiring {
                        state.senders[who].next += 1;
                    }
                }),
                Some(_) => {}
            }
        }
        for (at, inbox) in self.inboxes.iter().enumerate() {
            if inbox.left || inbox.queue.is_empty() {
                continue;
            }
            if self.table < TABLE {
                push(&|state| {
                    let message = state.inboxes[at].queue.pop_front().expect("not empty");
                    state.received.push(message);
                    state.table += 1;
                });
            } else if !rules.looks_before_taking {
                // The kernel cuts the record short.
                push(&|state| {
                    let _ = state.inboxes[at].queue.pop_front();
                });
            }
        }
        if self.table > 0 {
            push(&|state| state.table -= 1);
        }
        if !self.forked {
            push(&|state| {
                state.forked = true;
                for inbox in state.inboxes.iter_mut().filter(|inbox| !inbox.left) {
                    inbox.inherited = true;
                }
            });
        }
        if self.inboxes.iter().any(|inbox| inbox.inherited) {
            // The child closes its copies; then nobody holds what was left.
            push(&|state| {
                for inbox in &mut state.inboxes {
                    inbox.inherited = false;
                    inbox.shut |= inbox.left;
                }
            });
        }
        self.retire(rules, &mut push);
        all
    }

    /// The first inbox is retired, drained and followed by a second.
    fn retire(&self, rules: Rules, push: &mut Push<'_>) {
        let old = &self.inboxes[0];
        let shut = |state: &mut State| {
            let inbox = &mut state.inboxes[0];
            inbox.shut = rules.shuts_for_the_child_too || !inbox.inherited;
        };
        if !self.retiring {
            push(&|state| {
                state.retiring = true;
                state.address = None;
                if rules.shuts_before_the_last_look {
                    shut(state);
                }
            });
        } else if !old.left && old.queue.is_empty() {
            push(&|state| {
                let inbox = &mut state.inboxes[0];
                inbox.left = true;
                // Closed, unless the child still has it open. (The last look was not the last thing,
                // where that rule is broken: then senders go on for a while.)
                inbox.shut |= !inbox.inherited && rules.shuts_before_the_last_look;
            });
        } else if old.left && !rules.shuts_before_the_last_look && !old.shut {
            push(&|state| shut(state));
        }
        let may_open = old.left || !rules.drains_before_reopening;
        if self.retiring && may_open && self.inboxes.len() == 1 {
            push(&|state| {
                state.inboxes.push(Inbox::default());
                state.address = Some(1);
            });
        }
    }

    /// What is wrong with it, also as the `last` state of a run.
    fn fault(&self, last: bool) -> Option<&'static str> {
        for who in 0..2 {
            let its: Vec<u8> = self
                .received
                .iter()
                .filter(|(from, _)| *from == who)
                .map(|(_, nth)| *nth)
                .collect();
            if its.windows(2).any(|pair| pair[0] == pair[1]) {
                return Some("twice");
            }
            if its.windows(2).any(|pair| pair[0] > pair[1]) {
                return Some("out of order");
            }
            if last && self.senders[usize::from(who)].next < MESSAGES {
                return Some("a sender waits for ever");
            }
            if last && its.len() < usize::from(MESSAGES) {
                return Some("lost");
            }
        }
        None
    }
}

/// Tries every order of events. Answers how many states there are, or the first fault and the way to it.
fn explore(rules: Rules) -> Result<usize, (&'static str, Vec<State>)> {
    let mut seen: HashMap<State, Option<State>> = HashMap::from([(State::first(), None)]);
    let mut ahead = VecDeque::from([State::first()]);
    while let Some(state) = ahead.pop_front() {
        let next: Vec<State> = state
            .next(rules)
            .into_iter()
            .filter(|next| *next != state)
            .collect();
        if let Some(fault) = state.fault(next.is_empty()) {
            let mut way = vec![state];
            while let Some(Some(before)) = seen.get(&way[way.len() - 1]) {
                way.push(before.clone());
            }
            way.reverse();
            return Err((fault, way));
        }
        for next in next {
            if !seen.contains_key(&next) {
                seen.insert(next.clone(), Some(state.clone()));
                ahead.push_back(next);
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn nothing_is_lost_doubled_or_stuck() {
    match explore(GOOD) {
        Ok(states) => {
            println!("{states} states");
            assert!(
                states > 5_000,
                "only {states} states: the model lost its choices"
            );
        }
        Err((fault, way)) => panic!("{fault}: {way:#?}"),
    }
}

#[test]
fn every_broken_rule_is_found() {
    let broken = [
        (
            "the last look comes first",
            Rules {
                shuts_before_the_last_look: false,
                ..GOOD
            },
            &["lost"][..],
        ),
        (
            "takes without looking",
            Rules {
                looks_before_taking: false,
                ..GOOD
            },
            &["lost"],
        ),
        (
            "opens before it is drained",
            Rules {
                drains_before_reopening: false,
                ..GOOD
            },
            &["out of order"],
        ),
        (
            "the child keeps it open",
            Rules {
                shuts_for_the_child_too: false,
                ..GOOD
            },
            &["lost"],
        ),
        (
            "repeats what was queued",
            Rules {
                repeats_only_what_failed: false,
                shuts_before_the_last_look: false,
                ..GOOD
            },
            &["twice"],
        ),
    ];
    for (name, rules, faults) in broken {
        let found = explore(rules).map_err(|(fault, _)| fault);
        assert!(
            found.is_err_and(|fault| faults.contains(&fault)),
            "{name}: {found:?}"
        );
    }
}
