//! Requests that are wrong, and what the answers say about them.

use serde_json::{Value, json};

use super::{Server, tools, with};
use crate::testing::Scripted;

/// Wrong fields, and the place that the answer names.
fn wrong() -> Vec<(Value, &'static str)> {
    let item = |item: Value| json!({"input": [item]});
    let user = |content: Value| json!({"input": [{"role": "user", "content": content}]});
    let tool = |tool: Value| json!({"tools": [tool]});
    let format = |format: Value| json!({"text": {"format": format}});
    let choice = |choice: Value| json!({"tools": tools(), "tool_choice": choice});
    let many: serde_json::Map<_, _> = (0..17).map(|i| (i.to_string(), json!(""))).collect();
    vec![
        (json!({"model": null}), "model"),
        (json!({"model": 7}), "model"),
        (json!({"input": null}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": 7}), "input"),
        (json!({"input": {}}), "input"),
        (item(json!({})), "input[0].role"),
        (
            item(json!({"role": "tool", "content": ""})),
            "input[0].role",
        ),
        (item(json!({"role": "user"})), "input[0].content"),
        (user(json!(7)), "input[0].content"),
        (user(json!([{"text": "a"}])), "input[0].content[0]"),
        (
            user(json!([{"type": "input_text"}])),
            "input[0].content[0].text",
        ),
        (
            user(json!([{"type": "input_image", "image_url": "x"}])),
            "input[0].content[0]",
        ),
        (
            user(json!([{"type": "input_file", "file_id": "x"}])),
            "input[0].content[0]",
        ),
        (
            item(json!({"type": "web_search_call", "id": "ws_1"})),
            "input[0].type",
        ),
        (
            item(json!({"type": "function_call", "name": "f", "arguments": ""})),
            "input[0].call_id",
        ),
        (
            item(json!({"type": "function_call", "call_id": "c", "arguments": ""})),
            "input[0].name",
        ),
        (
            item(json!({"type": "function_call", "call_id": "c", "name": "f"})),
            "input[0].arguments",
        ),
        (
            item(json!({"type": "function_call_output", "output": ""})),
            "input[0].call_id",
        ),
        (
            item(json!({"type": "function_call_output", "call_id": "c"})),
            "input[0].output",
        ),
        (
            item(json!({"type": "function_call_output", "call_id": "c", "output": ""})),
            "input[0].call_id",
        ),
        (item(json!({"type": "item_reference"})), "input[0].id"),
        (
            item(json!({"type": "item_reference", "id": "msg_0"})),
            "input[0].id",
        ),
        (
            json!({"previous_response_id": "resp_0"}),
            "previous_response_id",
        ),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (json!({"max_output_tokens": -1}), "max_output_tokens"),
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"top_p": -0.1}), "top_p"),
        (json!({"top_logprobs": 21}), "top_logprobs"),
        (json!({"include": ["everything"]}), "include[0]"),
        (json!({"truncation": "some"}), "truncation"),
        (json!({"reasoning": {"effort": "huge"}}), "reasoning.effort"),
        (
            json!({"reasoning": {"summary": "long"}}),
            "reasoning.summary",
        ),
        (json!({"text": {"verbosity": "loud"}}), "text.verbosity"),
        (format(json!({"type": "xml"})), "text.format.type"),
        (
            format(json!({"type": "json_schema", "name": "n"})),
            "text.format.schema",
        ),
        (
            format(json!({"type": "json_schema", "schema": {}})),
            "text.format.name",
        ),
        (
            format(json!({"type": "json_schema", "name": "n", "schema": 7})),
            "text.format.schema",
        ),
        (tool(json!({"type": "web_search"})), "tools[0].type"),
        (
            tool(json!({"type": "custom", "name": "f"})),
            "tools[0].type",
        ),
        (tool(json!({"type": "function"})), "tools[0].name"),
        (
            tool(json!({"type": "function", "name": "a b"})),
            "tools[0].name",
        ),
        (
            tool(json!({"type": "function", "name": "f", "parameters": []})),
            "tools[0].parameters",
        ),
        (
            tool(json!({"type": "function", "name": "f", "parameters": {"type": "string"}})),
            "tools[0].parameters",
        ),
        (tool(json!(["function", "f"])), "tools[0]"),
        (json!({"text": [{"type": "text"}]}), "text"),
        (item(json!(["message", "id", "user", "a"])), "input[0]"),
        (
            json!({"tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "f"}]}),
            "tools[1].name",
        ),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (choice(json!("some")), "tool_choice"),
        (choice(json!(7)), "tool_choice"),
        (
            choice(json!({"type": "function", "name": "f"})),
            "tool_choice.name",
        ),
        (choice(json!({"type": "file_search"})), "tool_choice.type"),
        (
            choice(json!({"type": "allowed_tools", "mode": "auto"})),
            "tool_choice.tools",
        ),
        (
            choice(json!({"type": "allowed_tools", "mode": "auto", "tools": [{"name": "f"}]})),
            "tool_choice.tools[0].name",
        ),
        (json!({"metadata": {"a": 1}}), "metadata"),
        (json!({"metadata": many}), "metadata"),
        (json!({"metadata": {"a": "x".repeat(513)}}), "metadata"),
        (json!({"background": true}), "background"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"prompt": {"id": "p"}}), "prompt"),
        (json!({"stream": "yes"}), "stream"),
    ]
}

#[tokio::test]
async fn wrong_requests_name_the_field() {
    let server = Server::new([]);
    for (fields, place) in wrong() {
        let (status, body) = server.json("POST /v1/responses", &with(&fields)).await;
        assert_eq!(status, 400, "{fields}: {body}");
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert_eq!(body["error"]["param"], place, "{body}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_requests_are_refused() {
    let backend = Scripted::new([]);
    let deep = "[".repeat(100_000);
    let deep_tools = format!(r#"{{"tool_choice":{}"#, r#"{"a":"#.repeat(100_000));
    for body in ["", "null", "[]", "{", "\"a\"", &deep, &deep_tools] {
        let (status, answer) = backend
            .request("POST", "/v1/responses", body.to_owned())
            .await;
        assert_eq!(status, 400, "{}", &body[..body.len().min(40)]);
        assert!(answer.contains("invalid_request_error"), "{answer}");
    }
}
