//! The alias table is exact, whatever the weights.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Adds up what every place keeps and is given, and checks it against the weights: one unit of
/// 2⁻³² per place may be lost to rounding.
fn check(weights: &[u64]) {
    let table = alias_table(weights);
    let (count, total) = (weights.len(), weights.iter().sum::<u64>());
    let mut shares = vec![0u64; count];
    for (place, alias) in table.iter().enumerate() {
        assert!(alias.keep_below <= 1 << 32);
        shares[place] += alias.keep_below;
        shares[alias.other as usize] += (1 << 32) - alias.keep_below;
    }
    for (share, weight) in shares.iter().zip(weights) {
        let exact = (u128::from(*weight) * count as u128) << 32;
        let exact = u64::try_from(exact / u128::from(total)).unwrap();
        assert!(
            share.abs_diff(exact) <= count as u64,
            "{weights:?}: {share} for {weight}"
        );
    }
}

#[test]
fn aliases_give_every_weight_its_share() {
    check(&[1]);
    check(&[7, 7, 7]);
    check(&[3, 1]);
    check(&[1, 2, 3, 4, 5, 6, 7]);
    check(&[65_535, 1]);
    check(&[65_535, 1, 1, 1, 65_535, 2]);
    let mut rng = SplitMix64::new(3);
    for count in [2, 10, 999, 20_000] {
        check(
            &(0..count)
                .map(|_| rng.between(1, 65_535))
                .collect::<Vec<u64>>(),
        );
    }
}

#[test]
fn an_empty_pool_neither_turns_nor_draws() {
    let pool = Pool::new(&[], 9);
    pool.turn_to_after(3);
    assert_eq!((pool.len(), pool.from_cursor().count()), (0, 0));
    assert_eq!(pool.at(pool.draw_place(&mut SplitMix64::new(1))), None);
    assert!(pool.is_empty() && !pool.contains(0));
}

#[test]
fn the_cursor_goes_around_from_any_start() {
    for seed in [0, 1, 2, 3, u32::MAX] {
        let pool = Pool::new(&[(4, 1), (6, 1), (9, 1)], seed);
        let mut around: Vec<u32> = pool.from_cursor().map(|(_, endpoint)| endpoint).collect();
        assert_eq!(around[0], [4, 6, 9][seed as usize % 3]);
        around.sort_unstable();
        assert_eq!(around, [4, 6, 9]);
    }
}
