//! Policies: what the API says who may reach whom, against what is compiled.

mod oracle;
mod suite;

use suite::{Row, Step};

/// Rows of a step that a judge sees otherwise.
fn disagreements(step: &Step, mut judge: impl FnMut(&Row, u8) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in &step.rows {
        for family in step.world.families(row) {
            let allowed = judge(row, family);
            if allowed != row.allowed() {
                wrong.push(format!(
                    "{}: {row:?} over IPv{family}: got {allowed}",
                    step.name
                ));
            }
        }
    }
    wrong
}

#[test]
fn the_oracle_agrees_with_every_row() {
    let mut rows = 0;
    for file in suite::files() {
        for step in suite::steps(&file) {
            rows += step.rows.len();
            let wrong = disagreements(&step, |row, family| {
                oracle::allows(&step.world, row, family)
            });
            assert!(wrong.is_empty(), "{}: {}", file.display(), wrong.join("\n"));
        }
    }
    assert!(rows > 39_000, "only {rows} rows were found");
}

#[test]
fn the_oracle_would_see_a_wrong_row() {
    let file = suite::files().into_iter().next().unwrap();
    let step = suite::steps(&file).into_iter().next().unwrap();
    let wrong = disagreements(&step, |row, family| {
        !oracle::allows(&step.world, row, family)
    });
    assert!(wrong.len() >= step.rows.len());
}
