//! Chat templates as the model families write them, and templates that mean harm.

use coldframe_backbone::Error;
use coldframe_backbone::text::{ChatInput, ChatTemplate};
use serde_json::json;
use std::time::{Duration, Instant, SystemTime};

// Chat templates in the manner of the families, written for these tests.
pub const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const LLAMA3: &str = r#"{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"#;
const QWEN3: &str = r#"{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "assistant" %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' + content + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- for key, value in documents[0].items() %}{{ key ~ '=' ~ value ~ ';' }}{% endfor %}
{{- ns.last_query_index }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"#;
const GEMMA: &str = r#"{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"#;
const MISTRAL: &str = "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{% generation %}{{ ' ' + message['content'] + eos_token}}{% endgeneration %}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}";

fn render(template: &str, input: &ChatInput) -> Result<String, Error> {
    ChatTemplate::parse(template, "<s>", "</s>")?.render(input)
}

#[test]
fn templates_of_the_families_render() {
    let chat = json!([{"role": "user", "content": " Hi "}, {"role": "assistant", "content": "<think>x</think>\nYo"}, {"role": "user", "content": "Go"}]);
    let mut input = ChatInput::new(&chat);
    input.now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_735_689_599);
    let chatml = render(CHATML, &input).unwrap();
    assert_eq!(
        chatml,
        "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n<think>x</think>\nYo<|im_end|>\n<|im_start|>user\nGo<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(
        render(MISTRAL, &input).unwrap(),
        "<s>[INST]  Hi  [/INST] <think>x</think>\nYo</s>[INST] Go [/INST]"
    );
    assert_eq!(
        render(GEMMA, &input).unwrap(),
        "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n<think>x</think>\nYo<end_of_turn>\n<start_of_turn>user\nGo<end_of_turn>\n<start_of_turn>model\n"
    );
    let documents = json!([{"z": 1, "a": null}]);
    input.documents = Some(&documents);
    input.extra.insert("enable_thinking".into(), false.into());
    assert_eq!(
        render(QWEN3, &input).unwrap(),
        "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n<|im_start|>user\nGo<|im_end|>\nz=1;a=None;2<think>\n\n</think>\n\n"
    );
    let tools =
        json!([{"type": "function", "function": {"name": "é<f>", "n": [1, 2.0, true, null], "e": {}}}]);
    input.tools = Some(&tools);
    let llama = render(LLAMA3, &input).unwrap();
    let json = "{\n    \"type\": \"function\",\n    \"function\": {\n        \"name\": \"é<f>\",\n        \"n\": [\n            1,\n            2.0,\n            true,\n            null\n        ],\n        \"e\": {}\n    }\n}";
    assert!(
        llama.starts_with("<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 31 Dec 2024\n\n"),
        "{llama}"
    );
    assert!(llama.contains(json), "{llama}");
    assert!(
        llama.ends_with(
            "user<|end_header_id|>\n\nGo<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        )
    );
}

#[test]
fn tool_calls_and_parts_render() {
    let chat = json!([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"b": 1, "a": "x"}}}]}]);
    let text = render(LLAMA3, &ChatInput::new(&chat)).unwrap();
    assert!(text.contains(r#"{"name": "f", "parameters": {"b": 1, "a": "x"}}"#), "{text}");
    let parts =
        json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]);
    assert!(render(CHATML, &ChatInput::new(&parts)).unwrap().contains("user\na\nb<|im_end|>"));
    assert!(render(GEMMA, &ChatInput::new(&parts)).unwrap().contains("user\nab<end_of_turn>"));
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]);
    assert!(matches!(
        render(CHATML, &ChatInput::new(&image)),
        Err(Error::BadRequest { field: "messages", .. })
    ));
}

#[test]
fn bad_templates_give_typed_errors_in_bounded_time() {
    let chat = json!([{"role": "user", "content": "x"}]);
    let input = ChatInput::new(&chat);
    let check = |template: &str, part: &str| {
        let began = Instant::now();
        match render(template, &input) {
            Err(Error::Template(problem)) => assert!(problem.contains(part), "{template}: {problem}"),
            other => panic!("{template}: {other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{template}");
    };
    check("{% if %}", "line 1");
    check("{{ nothing() }}", "unknown function");
    check("{{ messages | no_such_filter }}", "filter");
    check("{{ raise_exception('no way') }}", "no way");
    check("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "more work");
    check("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "");
    check("{% include '/etc/passwd' %}", "");
    check(
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s | length }}",
        "more work",
    );
    check("{{ 'x' * 99999999 * 99999999 }}", "");
    check("{{ strftime_now('%Q') }}", "%Q");
    let flood = "{% for a in range(1000) %}{% for b in range(1000) %}xxxxxxxxxx{% endfor %}{% endfor %}";
    assert!(matches!(render(flood, &input), Err(Error::TooLarge { .. })));
    assert!(matches!(render(&"x".repeat(1 << 20), &input), Err(Error::TooLarge { .. })));
    assert!(matches!(render("", &ChatInput::new(&json!({}))), Err(Error::BadRequest { .. })));
}
