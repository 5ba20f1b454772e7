//! Answers beside their references: how good each is.

use anyhow::{Context as _, ensure};
use troika_remote::cascade::calibrate;
use troika_remote::cascade::likeness::Measure;

use super::answers::Answered;
use super::examples::Example;

/// An example that was answered and graded.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Job {
    /// What the arithmetic sees of it.
    pub(super) example: calibrate::Example,
    /// How the answer was compared.
    pub(super) measure: Measure,
    /// The answer.
    pub(super) local: Answered,
    /// The remote's, if it was asked.
    pub(super) remote: Option<Answered>,
}

/// Grades every answer, by one measure or by the one that fits each reference. With `taught`, the remote's answers are graded
/// as well, or are the references where the file has none; examples that it did not answer are left out.
///
/// # Errors
/// If there is no reference, or the measure cannot be used with it.
pub(super) fn grade(
    examples: &[Example],
    answers: &[Answered],
    taught: Option<&[Option<Answered>]>,
    measure: Option<Measure>,
) -> anyhow::Result<Vec<Job>> {
    let mut jobs = Vec::with_capacity(examples.len());
    for (i, (example, local)) in examples.iter().zip(answers).enumerate() {
        let remote = taught.and_then(|taught| taught[i].clone());
        if taught.is_some() && remote.is_none() {
            continue;
        }
        let line = example.line;
        let said = remote.as_ref().map(|remote| &*remote.answer);
        let reference = example.reference.as_deref().or(said);
        let reference =
            reference.with_context(|| format!("line {line}: there is nothing to compare with"))?;
        let measure = measure.unwrap_or_else(|| Measure::of(reference));
        // What is not even like itself is not of this form.
        ensure!(
            measure.compare(reference, reference) > 0.0,
            "line {line}: the answer to compare with is no {}",
            name(measure)
        );
        jobs.push(Job {
            example: calibrate::Example {
                score: local.score,
                local: measure.compare(&local.answer, reference),
                // Without a remote, the reference counts as what it says.
                remote: said.map_or(1.0, |said| measure.compare(said, reference)),
            },
            measure,
            local: local.clone(),
            remote,
        });
    }
    Ok(jobs)
}

/// What a measure is called on the command line.
pub(super) fn name(measure: Measure) -> &'static str {
    match measure {
        Measure::Exact => "exact",
        Measure::Contains => "contains",
        Measure::Number => "number",
        Measure::Json => "json",
        Measure::F1 => "f1",
    }
}

#[cfg(test)]
mod tests {
    use troika_server::job::Prompt;

    use super::*;

    fn example(reference: Option<&str>) -> Example {
        Example {
            line: 7,
            prompt: Prompt::Text("x".to_owned()),
            reference: reference.map(str::to_owned),
        }
    }

    fn answered(answer: &str) -> Answered {
        Answered {
            key: String::new(),
            score: Some(0.5),
            why: None,
            answer: answer.to_owned(),
            prompt_tokens: 1,
            completion_tokens: 1,
            reference_tokens: 1,
            joules: None,
            seconds: 0.0,
            cost: None,
        }
    }

    fn job(answer: &str, reference: &str, measure: Option<Measure>) -> anyhow::Result<Job> {
        Ok(grade(
            &[example(Some(reference))],
            &[answered(answer)],
            None,
            measure,
        )?
        .remove(0))
    }

    #[test]
    fn the_reference_chooses_the_measure_unless_somebody_does() {
        let graded = job("It is 42.", "42", None).expect("is graded");
        assert_eq!(
            (graded.measure, graded.example.local),
            (Measure::Number, 1.0)
        );
        let graded = job("It is 42.", "42", Some(Measure::Exact)).expect("is graded");
        assert_eq!(graded.example.local, 0.0);
        let error = job("x", "Paris", Some(Measure::Number)).expect_err("is no number");
        assert_eq!(
            error.to_string(),
            "line 7: the answer to compare with is no number"
        );
    }

    #[test]
    fn a_remote_is_graded_too_or_is_the_measure() {
        let examples = [example(Some("Paris")), example(None), example(Some("Rome"))];
        let local = ["Paris", "Rome", "Rome"].map(answered);
        let taught = [Some(answered("Lyon")), Some(answered("Rome")), None];
        let jobs = grade(&examples, &local, Some(&taught), None).expect("is graded");
        let grades: Vec<_> = jobs
            .iter()
            .map(|job| (job.example.local, job.example.remote))
            .collect();
        assert_eq!(grades, [(1.0, 0.0), (1.0, 1.0)]);
        assert!(
            grade(&examples, &local, None, None).is_err(),
            "line 2 has no reference"
        );
    }
}
