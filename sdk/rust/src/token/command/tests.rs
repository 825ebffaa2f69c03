use std::path::PathBuf;

use bursar_core::clock::TestClock;
use data_encoding::BASE64URL_NOPAD;

use super::*;

/// A command that counts its runs in a file, then does what `script` says.
struct Trial {
    place: tempfile::TempDir,
    clock: Arc<TestClock>,
    command: TokenCommand,
}

impl Trial {
    fn new(script: &str) -> Self {
        let place = tempfile::tempdir().expect("directory");
        let clock = Arc::new(TestClock::new());
        let counting = format!("echo run >> '{}'\n{script}", place.path().join("runs").display());
        let arguments = vec![OsString::from("-c"), OsString::from(counting)];
        let command = TokenCommand::by(Arc::clone(&clock) as Arc<dyn Clock>, "sh".into(), arguments);
        Self { place, clock, command }
    }

    /// One that writes a token that ends in `seconds`.
    fn writing(seconds: i64) -> Self {
        let exp = TestClock::new().now().as_second() + seconds;
        let claims = BASE64URL_NOPAD.encode(format!("{{\"exp\":{exp}}}").as_bytes());
        Self::new(&format!("echo e30.{claims}.c2ln"))
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.file("runs")).map_or(0, |runs| runs.lines().count())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    async fn token(&self) -> String {
        let token = self.command.token().await.expect("a token");
        token.header.to_str().expect("text").to_owned()
    }

    async fn fault(&self) -> String {
        self.command.token().await.map(drop).expect_err("no token").to_string()
    }
}

#[tokio::test]
async fn one_run_is_for_all_who_ask_together_and_after() {
    let trial = Trial::writing(3600);
    let (one, two, three) = tokio::join!(trial.token(), trial.token(), trial.token());
    assert!(one.starts_with("Bearer e30.") && one == two && two == three);
    trial.clock.advance(Duration::from_secs(3539));
    trial.token().await;
    assert_eq!(trial.runs(), 1);
}

#[tokio::test]
async fn a_token_is_replaced_shortly_before_its_end() {
    let trial = Trial::writing(3600);
    trial.token().await;
    trial.clock.advance(Duration::from_secs(3540));
    // It was of use for no time at all by the clock of the machine, so the pause after its run has to pass first.
    let after_the_pause = Retry::BACKGROUND.delay(1) + Duration::from_millis(500);
    tokio::time::timeout(after_the_pause * 20, async {
        while trial.runs() == 1 {
            trial.token().await;
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a second run");
}

#[tokio::test]
async fn a_refused_token_is_replaced_and_only_by_a_run_after_it() {
    let trial = Trial::new("echo opaque");
    let first = trial.command.token().await.expect("a token");
    trial.command.refused(&first).await;
    // The pause is over before whatever starts a shell; wait for it by asking.
    while trial.runs() == 1 {
        trial.token().await;
        tokio::task::yield_now().await;
    }
    trial.command.refused(&first).await;
    let again = trial.token().await;
    assert_eq!((trial.runs(), again.as_str()), (2, "Bearer opaque"));
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_failure_costs_a_bounded_number_of_runs() {
    let missing = TokenCommand::new("/nowhere/command", []);
    for _ in 0..3600 {
        assert!(missing.token().await.is_err());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let runs = missing.turn.lock().await.runs;
    assert!((50..=130).contains(&runs), "{runs} runs");
}

#[tokio::test]
async fn a_failure_says_the_status_and_nothing_that_was_written() {
    let error = Trial::new("echo ey.can.ary; exit 3").fault().await;
    assert_eq!(error, "it ended with exit status: 3; what it said stands on standard error");
    let missing = TokenCommand::new("/nowhere/command", []).token().await;
    assert_eq!(missing.map(drop).expect_err("no token").to_string(), "it cannot be started");
}

#[tokio::test]
async fn what_is_no_token_is_not_presented() {
    for script in ["true", "echo", "echo a b", "printf 'a\\nb'", "yes x"] {
        let error = Trial::new(script).fault().await;
        assert_eq!(error, "it wrote something other than one token of at most 16 KiB", "{script}");
    }
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_and_so_is_one_that_nobody_waits_for() {
    let trial = Trial::new("exec tail -f /dev/null > /dev/null");
    let hanging = trial.command.with_limit(Duration::from_millis(300));
    let error = hanging.token().await.map(drop).expect_err("no token");
    assert_eq!(error.to_string(), "it wrote no token within 0 s and was ended");

    let trial = Trial::new("exec tail -f /dev/null > /dev/null");
    drop(tokio::time::timeout(Duration::from_millis(300), trial.command.token()).await);
    let turn = trial.command.turn.lock().await;
    assert!(matches!(turn.last, Some(Err(TokenCommandError::Abandoned))), "it has not tried for free");
}

#[tokio::test]
async fn it_reads_nothing_of_its_callers_input_and_is_not_told_of_itself() {
    let trial = Trial::new("cat; echo \"a${BURSAR_TOKEN_COMMAND}b\"");
    assert_eq!(trial.token().await, "Bearer ab");
}

#[test]
fn neither_arguments_nor_tokens_are_printed() {
    let command = TokenCommand::new("vault", [OsString::from("--password=hunter2")]);
    assert!(!format!("{command:?}").contains("hunter2"));
}

#[test]
fn a_short_life_is_not_all_margin() {
    let now = TestClock::new().now();
    let ends = |seconds: i64| Timestamp::from_second(now.as_second() + seconds).expect("time");
    assert_eq!(before(ends(3600), now), ends(3540));
    assert_eq!(before(ends(50), now), ends(40));
    assert_eq!(before(ends(-50), now), ends(-50));
}
