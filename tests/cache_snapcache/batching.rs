//! Batching and publication.

use super::*;

#[tokio::test]
async fn the_first_breadcrumb_is_the_empty_state_and_waits_for_the_datastore() {
    let crumb = running().current_breadcrumb();
    assert_eq!((crumb.sequence().0, crumb.kvs().len(), crumb.deltas().len()), (1, 0, 0));
    assert_eq!(crumb.sync_status(), SyncStatus::WaitForDatastore);
    assert_eq!((crumb.revision(), crumb.kvs().digest()), (Revision::ZERO, Digest::default()));
}

#[tokio::test]
async fn an_idle_cache_drops_a_breadcrumb_for_each_update_at_once() {
    let cache = running();
    for (i, update) in fresh(30).into_iter().enumerate() {
        let crumb = in_time(publish(&cache, vec![update])).await;
        assert_eq!((crumb.deltas().len(), crumb.kvs().len()), (1, i + 1));
        assert_eq!(crumb.sequence().0, i as u64 + 2);
    }
}

#[tokio::test]
async fn under_load_batches_form_up_to_the_limit() {
    let single = fresh(25).into_iter().map(|update| updates(vec![update])).collect();
    assert_eq!(sizes(&after_all_at_once(single).await), [10, 10, 5]);
}

#[tokio::test]
async fn a_slice_over_the_limit_is_published_in_parts() {
    assert_eq!(sizes(&after_all_at_once(vec![updates(fresh(25))]).await), [10, 10, 5]);
    // A slice is not split before it is taken: 9 and 9 make a batch of 18.
    let mut all = fresh(18);
    let second = updates(all.split_off(9));
    assert_eq!(sizes(&after_all_at_once(vec![updates(all), second]).await), [10, 8]);
}

#[tokio::test]
async fn an_upstream_revision_is_never_split() {
    let at_7 = fresh(25).into_iter().map(|update| update.at(7)).collect();
    let crumbs = after_all_at_once(vec![updates(at_7)]).await;
    assert_eq!((sizes(&crumbs), crumbs[0].revision()), (vec![25], Revision(7)));

    let in_eights = fresh(32).into_iter().zip(0..).map(|(update, i)| update.at(1 + i / 8)).collect();
    assert_eq!(sizes(&after_all_at_once(vec![updates(in_eights)]).await), [16, 16]);

    let whole = Batch::new(fresh(25), Grouping::Whole);
    let crumbs = after_all_at_once(vec![FeedEvent::Updates(whole)]).await;
    assert_eq!((sizes(&crumbs), crumbs[0].revision()), (vec![25], Revision(1)));
}

#[tokio::test]
async fn a_status_rides_on_the_last_breadcrumb_of_its_batch() {
    use SyncStatus::{InSync, WaitForDatastore as Wait};
    let crumbs = after_all_at_once(vec![updates(fresh(9)), FeedEvent::Status(InSync)]).await;
    assert_eq!((sizes(&crumbs), statuses(&crumbs)), (vec![9], vec![InSync]));
    // These 25 updates are a batch of their own, and the status is the next one.
    let crumbs = after_all_at_once(vec![updates(fresh(25)), FeedEvent::Status(InSync)]).await;
    assert_eq!((sizes(&crumbs), statuses(&crumbs)), (vec![10, 10, 5, 0], vec![Wait, Wait, Wait, InSync]));
}

#[tokio::test]
async fn a_status_before_the_data_of_its_batch_is_seen_with_the_data() {
    use SyncStatus::{InSync, WaitForDatastore as Wait};
    let events = vec![FeedEvent::Status(InSync), updates(fresh(25))];
    let crumbs = after_all_at_once(events).await;
    assert_eq!(sizes(&crumbs), [10, 10, 5]);
    assert_eq!(statuses(&crumbs), [Wait, Wait, InSync]);
}

#[tokio::test]
async fn several_statuses_in_a_batch_collapse_to_the_last_one() {
    use SyncStatus::{InSync, ResyncInProgress};
    let flapping = [InSync, ResyncInProgress, InSync, ResyncInProgress].map(FeedEvent::Status);
    let crumbs = after_all_at_once(flapping.into()).await;
    assert_eq!((sizes(&crumbs), statuses(&crumbs)), (vec![0], vec![ResyncInProgress]));
}

#[tokio::test]
async fn a_status_alone_makes_a_breadcrumb_and_the_same_one_again_makes_none() {
    let cache = running();
    let first = cache.current_breadcrumb();
    for status in [SyncStatus::InSync, SyncStatus::InSync, SyncStatus::ResyncInProgress] {
        cache.on_status_updated(status).await.expect("a status");
        // Let it be a batch of its own.
        while cache.current_breadcrumb().sync_status() != status {
            tokio::task::yield_now().await;
        }
    }
    assert!(publish_nothing(&cache, vec![]).await.is_empty());
    let crumbs: Vec<_> = first.later().collect();
    assert_eq!(statuses(&crumbs), [SyncStatus::InSync, SyncStatus::ResyncInProgress]);
    assert!(crumbs.iter().all(|crumb| crumb.deltas().is_empty() && crumb.revision() == Revision::ZERO));
    assert_ne!(crumbs[0].cursor(), crumbs[1].cursor(), "a change of status alone moves the cursor");
}

#[tokio::test]
async fn where_nothing_changed_there_is_no_breadcrumb() {
    let cache = running();
    let crumb = publish(&cache, vec![Update::put("a", "1")]).await;
    assert!(publish_nothing(&cache, vec![]).await.is_empty());
    assert!(publish_nothing(&cache, vec![Update::put("a", "1"), Update::delete("b")]).await.is_empty());
    assert_eq!(cache.current_breadcrumb().sequence(), crumb.sequence());
    assert_eq!(cache.stats().suppressed.get(), 2);
}

#[tokio::test]
async fn the_defaults_bound_everything() {
    let CacheConfig {
        max_batch,
        min_interval,
        max_value_bytes,
        max_key_bytes,
        max_keys,
        max_bytes,
        window,
        keep_every_write,
    } = CacheConfig::default();
    assert_eq!((max_keys, max_bytes), (None, None), "the state is as large as the upstream's");
    assert!((1..=10_000).contains(&max_batch) && min_interval.is_zero() && !keep_every_write);
    assert!(max_value_bytes <= 64 << 20 && max_key_bytes <= 64 << 10);
    assert!(window.max_count <= 1 << 20 && window.max_bytes <= 1 << 30);
    assert!(window.max_age <= Duration::from_secs(24 * 3600));
}
