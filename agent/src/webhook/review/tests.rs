use super::*;
use crate::webhook::testing::settings;

fn review(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "0c9a8d74-9cb7-44dd-b98e-09fd62def2f4",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": "shop", "operation": "CREATE", "userInfo": { "username": "ada" }, "dryRun": false,
            "object": {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "generateName": "web-", "labels": { "bursar.io/inject": "true" },
                    "annotations": { "bursar.io/environment": "shop/prod" },
                },
                "spec": { "containers": [{ "name": "web", "image": "x", "command": ["/web"] }] },
            },
            "oldObject": null, "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" },
        },
    });
    change(&mut review);
    review.to_string().into_bytes()
}

fn answered(change: impl FnOnce(&mut Value)) -> (Value, &'static str) {
    let Answer { body, outcome, .. } = answer(&review(change), &settings()).expect("answered");
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        (&answer["apiVersion"], &answer["kind"]),
        (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
    );
    assert_eq!(answer["response"]["uid"], "0c9a8d74-9cb7-44dd-b98e-09fd62def2f4");
    (answer["response"].clone(), outcome)
}

#[test]
fn a_patch_is_base64_of_a_json_patch_that_kube_reads_too() {
    let (response, outcome) = answered(|_| ());
    assert_eq!(
        (&response["allowed"], &response["patchType"], outcome),
        (&json!(true), &json!("JSONPatch"), "injected")
    );
    let patch = BASE64.decode(response["patch"].as_str().expect("a text").as_bytes()).expect("base64");
    let patch: Patch = serde_json::from_slice(&patch).expect("a patch");
    let mut pod = serde_json::from_slice::<Value>(&review(|_| ())).expect("JSON")["request"]["object"].take();
    json_patch::patch(&mut pod, &patch).expect("applies");
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "bursar-install");
}

#[test]
fn a_dry_run_is_answered_alike_and_counted_apart() {
    let dry = answered(|review| review["request"]["dryRun"] = json!(true));
    assert_eq!(dry, (answered(|_| ()).0, "dry_run"));
}

#[test]
fn who_did_not_opt_in_is_allowed_without_a_patch() {
    let (response, outcome) =
        answered(|review| review["request"]["object"]["metadata"]["labels"] = json!({}));
    assert_eq!(
        (response.as_object().expect("members").len(), &response["allowed"], outcome),
        (2, &json!(true), "untouched")
    );
}

#[test]
fn a_refusal_says_every_fault_to_whoever_made_the_pod() {
    let (response, outcome) = answered(|review| {
        review["request"]["object"]["metadata"]["annotations"] =
            json!({ "bursar.io/enviroment": "shop/prod" });
    });
    let message = response["status"]["message"].as_str().expect("words");
    assert_eq!(
        (&response["allowed"], &response["status"]["code"], outcome),
        (&json!(false), &json!(422), "refused")
    );
    assert!(message.starts_with(
        "bursar: `bursar.io/enviroment` is no annotation; the nearest is `bursar.io/environment`; "
    ));
}

#[test]
fn what_is_no_creation_of_a_pod_is_refused_under_its_own_id() {
    let changes: [fn(&mut Value); 6] = [
        |review| review["request"]["operation"] = json!("UPDATE"),
        |review| review["request"]["resource"]["resource"] = json!("deployments"),
        |review| review["request"]["resource"]["group"] = json!("apps"),
        |review| review["request"]["subResource"] = json!("ephemeralcontainers"),
        |review| review["request"]["object"] = json!(null),
        |review| review["request"]["object"]["spec"] = json!("nothing"),
    ];
    for change in changes {
        let (response, outcome) = answered(change);
        assert_eq!((&response["allowed"], outcome), (&json!(false), "refused"), "{response}");
    }
}

#[test]
fn what_is_no_review_has_no_answer_and_its_words_are_not_repeated() {
    let canary = "c4n4ry";
    let other =
        |version: &str, kind: &str| json!({ "apiVersion": version, "kind": kind }).to_string().into_bytes();
    let malformed = |review: &mut Value| review["request"]["uid"] = json!({ "x": canary });
    let missing = |review: &mut Value| drop(review["request"].take());
    let bad: [(Vec<u8>, u16); 9] = [
        (Vec::new(), 400),
        (format!("{{\"kind\": \"{canary}").into_bytes(), 400),
        (b"[1]".to_vec(), 400),
        (b"\xff\xfe".to_vec(), 400),
        (other("admission.k8s.io/v1beta1", "AdmissionReview"), 422),
        (other("v1", "Pod"), 422),
        (b"{}".to_vec(), 422),
        (review(malformed), 400),
        (review(missing), 400),
    ];
    for (body, status) in bad {
        let error = answer(&body, &settings()).expect_err("refused");
        assert_eq!(error.status().as_u16(), status, "{error}");
        assert!(!error.to_string().contains(canary), "{error}");
    }
}
