//! Mail that ends here.

use waypost_types::Notify;

use crate::house::House;

#[tokio::test]
async fn mail_lands_in_the_maildir_with_its_trace() {
    let house = House::new();
    house.send(house.entry(&["bob@waypost.test"])).await;
    house.until("removed", 1).await;
    assert_eq!(
        house.mailbox("bob"),
        [
            "Return-Path: <a@waypost.test>\nDelivered-To: bob@waypost.test\nFrom: a@example.org\nSubject: test\n\nhello\n.dot\n"
        ]
    );
    assert!(house.heard()[0].starts_with("delivered bob@waypost.test attempt=1 via=bob security=local"));
}

#[tokio::test]
async fn a_mailbox_outside_of_the_mail_directory_is_a_failure_and_the_sender_hears_of_it() {
    let house = House::new();
    house.send(house.entry(&["\"../../evil\"@waypost.test"])).await;
    house.until("removed", 2).await;
    assert_eq!(house.count("failed"), 1);
    let [report] = &house.mailbox("a")[..] else { panic!("one report: {:?}", house.heard()) };
    assert!(report.contains("Return-Path: <>") && report.contains("5.1.1"), "{report}");
    assert_eq!(std::fs::read_dir(house.dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn success_is_reported_to_who_asked_for_it() {
    let house = House::new();
    let mut entry = house.entry(&["bob@waypost.test", "carol@waypost.test"]);
    entry.recipients[0].recipient.notify = Notify { given: true, success: true, failure: false, delay: false };
    house.send(entry).await;
    house.until("noticed success a@waypost.test", 1).await;
    house.until("removed", 2).await;
    let [report] = &house.mailbox("a")[..] else { panic!("one report") };
    assert!(report.contains("Action: delivered") && report.contains("bob@waypost.test"));
    assert!(!report.contains("carol@waypost.test"));
}
