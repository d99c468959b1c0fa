//! Losses, clocks that are set, and a store that is read for long.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_loss_is_held_back_until_a_second_full_reading_says_so_too() {
    let scene = Scene::start(Duration::ZERO).await;
    scene.shelf.lock().unwrap().clear();
    assert!(scene.tell.send(Ok(News::Anything)).is_ok());
    pass(1).await;
    assert_eq!(scene.port("a"), Some(1));
    assert!(scene.status.borrow().held.is_some());
    let reports = scene.told.borrow().view.reports.len();
    assert_eq!(reports, 1, "what is held back is not said to be gone");
    pass(4_900).await;
    assert_eq!(scene.port("a"), Some(1));
    pass(200).await;
    assert_eq!(scene.port("a"), None);
    assert!(scene.status.borrow().held.is_none());
}

/// A clock that is set, there and back, ends no override and begins none; it is believed after an hour.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_ends_and_begins_nothing_for_an_hour() {
    const HOUR: u64 = 3_600_000;
    let scene = Scene::start(Duration::ZERO).await;
    let cordon = json!({"state": "Cordoned", "expiresAt": START + HOUR + 600_000});
    let drain = json!({"state": "Draining", "startsAt": START + 2 * HOUR});
    scene.set_overrides([("10.0.0.1:1", cordon), ("10.0.0.1:1@next", drain)]);
    let state = |scene: &Scene| {
        let registry = scene.published.borrow().clone().unwrap();
        registry.config.clusters[0].backends[0].state.name()
    };
    let stepped = |scene: &Scene| scene.count("clock_stepped");
    pass(1_000).await;
    assert_eq!((state(&scene), stepped(&scene)), ("Cordoned", 0));
    for (set, steps) in [
        (3 * HOUR.cast_signed(), 1),
        (0, 2),
        (3 * HOUR.cast_signed(), 3),
    ] {
        scene.ahead.store(set, Relaxed);
        scene.change("b", 1);
        pass(60_000).await;
        assert_eq!((state(&scene), stepped(&scene)), ("Cordoned", steps));
    }
    pass(HOUR - 62_000).await;
    assert_eq!(state(&scene), "Cordoned");
    pass(10_000).await;
    assert_eq!(state(&scene), "Draining", "the clock is believed");
}

/// Most of the registered backends fall silent: that is a loss, when they go out and when they are deleted.
#[tokio::test(start_paused = true)]
async fn a_mass_reaping_is_a_loss_like_any_other() {
    let scene = Scene::start(Duration::ZERO).await;
    let ids = ["x", "y", "z"];
    let beats = |beat: u64| ids.map(|id| (id.to_owned(), beat)).into();
    *scene.guests.lock().unwrap() = beats(START);
    assert!(scene.tell.send(Ok(News::Anything)).is_ok());
    let backends = |scene: &Scene| {
        let registry = scene.published.borrow().clone().unwrap();
        registry.config.clusters[0].backends.len()
    };
    let gone = |scene: &Scene| scene.told.borrow().view.gone.len();
    let held = |scene: &Scene| scene.count("registry_guard_held");
    pass(1).await;
    assert_eq!(backends(&scene), 4);
    // Both clocks: the store's alone is nothing.
    scene.ahead.store(7_200_000, Relaxed);
    pass(89_000).await;
    assert_eq!((backends(&scene), gone(&scene), held(&scene)), (4, 0, 0));
    pass(2_000).await;
    assert_eq!((backends(&scene), held(&scene)), (4, 1), "it waits");
    pass(6_000).await;
    assert_eq!((backends(&scene), gone(&scene)), (1, 0));
    pass(3_600_000 - 97_000).await;
    assert_eq!((gone(&scene), held(&scene)), (0, 1));
    // Found with a full reading, and confirmed by another one.
    let mut waited = 0;
    while gone(&scene) == 0 {
        pass(100).await;
        waited += 100;
        assert!(waited < 60_000, "they are never deleted");
    }
    assert_eq!((gone(&scene), held(&scene)), (3, 2));
    let told = scene.count("registry_guard_released");
    assert_eq!(told, 2, "both were confirmed");
    pass(120_000).await;
    assert_eq!((gone(&scene), held(&scene)), (3, 2), "told once");
    // Heard again they stay.
    *scene.guests.lock().unwrap() = beats(START + 1);
    pass(31_000).await;
    assert_eq!((backends(&scene), gone(&scene)), (4, 0));
}

/// Told when it begins to be so, not at every reading.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_read_for_long_is_told_of_once() {
    for (took, told) in [(1_000, 0), (1_001, 1)] {
        let scene = Scene::start(Duration::from_millis(took)).await;
        for _ in 0..3 {
            assert!(scene.tell.send(Ok(News::Anything)).is_ok());
            pass(2_000).await;
        }
        assert_eq!(scene.listings(), 4);
        assert_eq!(scene.count("registry_slow"), told, "{took} ms");
        let status = scene.status.borrow().clone();
        assert_eq!(status.listing_took, Duration::from_millis(took));
    }
}
