use bursar_core::BackendName;
use bursar_core::backend::Operation;

use super::*;

fn breaker() -> Breaker {
    Breaker::new(Gauge::default())
}

fn error(kind: ErrorKind) -> Result<(), BackendError> {
    let backend = BackendName::parse("vault").expect("name");
    Err(BackendError::new(kind, &backend, Operation::Read))
}

/// Makes a call that ends so, if one may be made.
fn call(breaker: &Breaker, result: &Result<(), BackendError>) -> Result<(), Open> {
    breaker.admit().map(|admission| admission.ended(result))
}

fn break_it(breaker: &Breaker) {
    for _ in 0..FAILURES {
        call(breaker, &error(ErrorKind::Unavailable)).expect("closed until now");
    }
    assert!(breaker.is_open());
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_open_it_and_an_answer_between_them_does_not_let_them_add_up() {
    let breaker = breaker();
    for _ in 0..3 {
        for _ in 1..FAILURES {
            call(&breaker, &error(ErrorKind::Timeout)).expect("closed");
        }
        call(&breaker, &error(ErrorKind::NotFound)).expect("closed");
    }
    break_it(&breaker);
    let refused = call(&breaker, &Ok(())).expect_err("open");
    assert_eq!(refused.kind, ErrorKind::Unavailable);
    assert!(!refused.wait.is_zero());
    assert_eq!(breaker.gauge.get(), OPEN);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_has_answered() {
    let breaker = breaker();
    for kind in [ErrorKind::Denied, ErrorKind::NotFound, ErrorKind::Conflict, ErrorKind::Misconfigured] {
        for _ in 0..FAILURES * 2 {
            call(&breaker, &error(kind)).expect("closed");
        }
    }
    let failed_within = error(ErrorKind::Unavailable).map_err(|error| error.with_code(500));
    for _ in 0..FAILURES * 2 {
        call(&breaker, &failed_within).expect("closed");
    }
}

#[tokio::test(start_paused = true)]
async fn one_trial_passes_after_the_wait_and_its_success_closes_it() {
    let breaker = breaker();
    let mut came_back = breaker.came_back();
    break_it(&breaker);
    tokio::time::advance(Duration::from_secs(1)).await;
    let trial = breaker.admit().expect("the trial");
    assert!(breaker.admit().is_err(), "a second call passed beside the trial");
    assert_eq!(breaker.gauge.get(), TRIAL);
    trial.ended(&Ok(()));
    assert_eq!(breaker.gauge.get(), CLOSED);
    assert!(came_back.has_changed().expect("the breaker is there"));
    came_back.mark_unchanged();
    call(&breaker, &Ok(())).expect("closed");
    assert!(!came_back.has_changed().expect("the breaker is there"), "it had not been away");
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_failure_costs_a_bounded_number_of_calls() {
    let breaker = breaker();
    let mut calls = 0;
    for _ in 0..36_000 {
        if call(&breaker, &error(ErrorKind::Timeout)).is_ok() {
            calls += 1;
        }
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    assert!((60..=140).contains(&calls), "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn a_trial_whose_caller_went_away_leaves_room_for_another() {
    let breaker = breaker();
    break_it(&breaker);
    tokio::time::advance(Duration::from_secs(1)).await;
    drop(breaker.admit().expect("the trial"));
    call(&breaker, &Ok(())).expect("another trial");
    assert!(!breaker.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_found_well_is_tried_at_once() {
    let breaker = breaker();
    let came_back = breaker.came_back();
    for _ in 0..20 {
        drop(call(&breaker, &error(ErrorKind::Sealed)));
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    drop(call(&breaker, &error(ErrorKind::Sealed)));
    assert!(breaker.is_open());
    breaker.examined(&Ok(()));
    assert!(came_back.has_changed().expect("the breaker is there"));
    call(&breaker, &Ok(())).expect("the trial");
    assert!(!breaker.is_open());
}

#[tokio::test(start_paused = true)]
async fn looks_at_its_health_that_fail_open_it_too() {
    let breaker = breaker();
    for _ in 0..FAILURES {
        breaker.examined(&error(ErrorKind::Sealed));
    }
    assert_eq!(call(&breaker, &Ok(())).expect_err("open").kind, ErrorKind::Sealed);
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_that_works_again_is_a_return() {
    let breaker = breaker();
    let came_back = breaker.came_back();
    breaker.examined(&error(ErrorKind::Denied));
    assert!(!breaker.is_open());
    breaker.examined(&Ok(()));
    assert!(came_back.has_changed().expect("the breaker is there"));
}

#[tokio::test(start_paused = true)]
async fn the_store_is_left_alone_for_as_long_as_it_asks() {
    let breaker = breaker();
    let asked = error(ErrorKind::Throttled)
        .map_err(|error| BackendError { retry_after: Some(Duration::from_secs(90)), ..error });
    for _ in 0..FAILURES {
        call(&breaker, &asked).expect("closed");
    }
    tokio::time::advance(Duration::from_secs(89)).await;
    assert!(call(&breaker, &Ok(())).is_err());
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(call(&breaker, &Ok(())).is_ok());
}
