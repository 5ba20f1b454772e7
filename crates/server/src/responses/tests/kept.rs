//! What is kept for the next request, and for whom.

use insta::assert_snapshot;
use serde_json::{Value, json};
use troika_engine::chat::ChatMessage;

use super::{Server, calls, content, with};
use crate::job::FinishReason;
use crate::testing::{pretty, says};

#[tokio::test]
async fn a_conversation_goes_on() {
    let server = Server::new([
        says(&calls(), FinishReason::ToolCalls),
        says(&[content("Rain.")], FinishReason::EndOfText),
        says(&[content("Bye.")], FinishReason::EndOfText),
    ]);
    let first = server
        .create(&with(&json!({"instructions": "Be brief."})))
        .await;
    let (first, call_id) = (&first["id"], &first["output"][2]["call_id"]);
    assert_eq!(call_id, "call_Oslo");
    let result = json!({"type": "function_call_output", "call_id": call_id, "output": "Rain"});
    let body = json!({"model": "tiny", "input": [result], "previous_response_id": first});
    let second = server.create(&body).await;
    assert_eq!(second["previous_response_id"], *first);
    let roles = |server: &Server| -> Vec<String> {
        server.messages().into_iter().map(|m| m.role).collect()
    };
    assert_eq!(
        roles(&server),
        ["user", "assistant", "tool"],
        "instructions are not kept"
    );
    assert_eq!(
        server.messages()[1].reasoning_content.as_deref(),
        Some("They want weather.")
    );
    assert_eq!(server.messages()[2].name.as_deref(), Some("weather"));

    // The first can go; the second keeps what it needs.
    let line = format!("DELETE /v1/responses/{}", first.as_str().unwrap());
    let (status, deleted) = server.json(&line, &Value::Null).await;
    assert_eq!((status, &deleted["deleted"]), (200, &json!(true)));
    assert_eq!(server.json(&line, &Value::Null).await.0, 404);
    let id = &second["id"];
    let body = json!({"model": "tiny", "input": "Thanks", "previous_response_id": id});
    server.create(&body).await;
    assert_eq!(
        roles(&server),
        ["user", "assistant", "tool", "assistant", "user"]
    );
    assert_eq!(server.messages()[3], ChatMessage::new("assistant", "Rain."));
}

#[tokio::test]
async fn items_are_referred_to_by_their_ids() {
    let hi = || says(&[content("Hi")], FinishReason::EndOfText);
    let server = Server::new([hi(), hi(), hi()]);
    let item = server.create(&with(&json!({}))).await["output"][0]["id"].clone();
    for reference in [
        json!({"type": "item_reference", "id": item}),
        json!({"id": item}),
    ] {
        let input = json!([reference, {"role": "user", "content": "And?"}]);
        server
            .create(&json!({"model": "tiny", "input": input}))
            .await;
        assert_eq!(server.messages()[0], ChatMessage::new("assistant", "Hi"));
        let body = json!({"model": "tiny", "input": input});
        let (status, answer) = server.request("bob", "POST /v1/responses", &body).await;
        assert_eq!(status, 400, "another key's item");
        assert!(answer.contains("input[0].id"), "{answer}");
    }
}

#[tokio::test]
async fn a_response_is_its_keys_own() {
    let server = Server::new([says(&[content("Hi")], FinishReason::EndOfText)]);
    let created = server.create(&with(&json!({}))).await;
    let id = created["id"].as_str().unwrap();
    let line = format!("GET /v1/responses/{id}");
    assert_eq!(
        server.json(&line, &Value::Null).await,
        (200, created.clone())
    );
    for line in [
        format!("GET /v1/responses/{id}"),
        format!("DELETE /v1/responses/{id}"),
        format!("GET /v1/responses/{id}/input_items"),
        format!("POST /v1/responses/{id}/cancel"),
    ] {
        assert_eq!(
            server.request("bob", &line, &Value::Null).await.0,
            404,
            "{line}"
        );
    }
    let body = json!({"model": "tiny", "input": "a", "previous_response_id": id});
    let (status, body) = server.request("bob", "POST /v1/responses", &body).await;
    assert_eq!(status, 400);
    assert!(body.contains("previous_response_id"), "{body}");
    assert!(body.contains("previous_response_not_found"), "{body}");
    assert_eq!(server.json(&line, &Value::Null).await.0, 200, "still there");
}

#[tokio::test]
async fn what_is_not_stored_cannot_be_found() {
    let server = Server::new([says(&[content("Hi")], FinishReason::EndOfText)]);
    let body = server.create(&with(&json!({"store": false}))).await;
    assert_eq!(body["store"], false);
    let line = format!("GET /v1/responses/{}", body["id"].as_str().unwrap());
    assert_eq!(server.json(&line, &Value::Null).await.0, 404);
}

#[tokio::test]
async fn input_is_listed_by_pages() {
    let hi = || says(&[content("Hi")], FinishReason::EndOfText);
    let server = Server::new([hi(), hi()]);
    let first = server.create(&with(&json!({}))).await;
    let body = json!({"model": "tiny", "input": "And?", "previous_response_id": first["id"]});
    let second = server.create(&body).await;
    let path = format!(
        "GET /v1/responses/{}/input_items",
        second["id"].as_str().unwrap()
    );
    let (status, all) = server
        .json(&format!("{path}?order=asc"), &Value::Null)
        .await;
    assert_eq!(status, 200);
    assert_snapshot!(pretty(&all.to_string()));
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let (_, page) = server.json(&format!("{path}{query}"), &Value::Null).await;
        seen.extend(page["data"].as_array().unwrap().clone());
        if page["has_more"] == false {
            break;
        }
        query = format!("?limit=2&after={}", page["last_id"].as_str().unwrap());
    }
    seen.reverse();
    assert_eq!(Value::from(seen), all["data"]);
    for wrong in [
        "?limit=0",
        "?limit=101",
        "?limit=x",
        "?order=up",
        "?after=msg_0",
    ] {
        let (status, body) = server.json(&format!("{path}{wrong}"), &Value::Null).await;
        assert_eq!(status, 400, "{wrong}: {body}");
    }
}

#[tokio::test]
async fn what_is_complete_cannot_be_cancelled_or_streamed_again() {
    let server = Server::new([says(&[content("Hi")], FinishReason::EndOfText)]);
    let id = server.create(&with(&json!({}))).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for (line, status) in [
        (format!("POST /v1/responses/{id}/cancel"), 400),
        (format!("GET /v1/responses/{id}?stream=true"), 400),
        (
            format!("GET /v1/responses/{id}?stream=false&include[]=x"),
            200,
        ),
        ("POST /v1/responses/resp_0/cancel".to_owned(), 404),
        ("GET /v1/responses/resp_0".to_owned(), 404),
        ("GET /v1/responses/%ff".to_owned(), 404),
        ("GET /v1/responses/resp_0/input_items".to_owned(), 404),
    ] {
        assert_eq!(server.json(&line, &Value::Null).await.0, status, "{line}");
    }
}
