//! In which order the workers are asked to take a connection.

use std::net::IpAddr;

use super::config::Policy;
use super::slot::Slot;

/// Fills `order` with the workers that may serve, the first choice first. `turn` is whose turn it is.
pub(crate) fn order(
    policy: Policy,
    slots: &[Slot],
    may_serve: impl Fn(&Slot) -> bool,
    turn: usize,
    client: Option<IpAddr>,
    order: &mut Vec<(u64, usize)>,
) {
    order.clear();
    let count = slots.len();
    let in_turn = (0..count).map(|nth| (turn + nth) % count);
    let able = in_turn.filter(|index| slots[*index].is_ready() && may_serve(&slots[*index]));
    match (policy, client) {
        (Policy::ShortestQueue, _) => {
            order.extend(able.map(|index| (slots[index].queued() as u64, index)));
            // Equal ones stay in turn.
            order.sort_by_key(|(queued, _)| *queued);
        }
        (Policy::Source, Some(client)) => {
            let subnet = subnet(client);
            order.extend(able.map(|index| (u64::MAX - weight(subnet, index), index)));
            order.sort_unstable();
        }
        (Policy::RoundRobin, _) | (Policy::Source, None) => {
            order.extend(able.map(|index| (0, index)));
        }
    }
}

/// What stands for a client: an IPv4 address, or the /64 that an IPv6 client may choose addresses from.
fn subnet(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

/// Each worker draws a number for each client, and the highest has it: a worker that is away moves its own
/// clients and no others, and has them again when it is back.
fn weight(subnet: u64, index: usize) -> u64 {
    // splitmix64, written out so that every release and every restart draws the same.
    let mut mixed = subnet ^ (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_one_subnet_are_one() {
        let parse = |text: &str| subnet(text.parse().expect("an address"));
        assert_eq!(parse("2001:db8:1:2::1"), parse("2001:db8:1:2:ffff::9"));
        assert_ne!(parse("2001:db8:1:2::1"), parse("2001:db8:1:3::1"));
        assert_eq!(parse("10.0.0.1"), parse("::ffff:10.0.0.1"));
        assert_ne!(parse("10.0.0.1"), parse("10.0.0.2"));
    }

    #[test]
    fn one_that_is_away_moves_its_own_clients_alone() {
        let best = |subnet, away: Option<usize>| {
            let there = (0..5).filter(|index| Some(*index) != away);
            there.max_by_key(|index| weight(subnet, *index))
        };
        let mut shares = [0; 5];
        for subnet in 0..1000 {
            let first = best(subnet, None);
            shares[first.expect("there are five")] += 1;
            for away in 0..5 {
                if first != Some(away) {
                    assert_eq!(best(subnet, Some(away)), first);
                }
            }
        }
        assert!(shares.iter().all(|share| *share > 100), "{shares:?}");
    }
}
