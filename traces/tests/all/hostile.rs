//! Files that are broken, cut or made to hurt: an error with a place, never a panic, never unbounded memory.

use crate::read_all;
use coldframe_traces::{Format, Item, OpenOptions, open, open_reader};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::path::Path;

/// A good row under each format's header.
const GOOD: &[(Format, &str, &str)] = &[
    (Format::AzureFunctions2019, "HashOwner,HashApp,HashFunction,Trigger,1,2,3\n", "o,a,f,http,0,2,1\n"),
    (Format::AzureFunctions2021, "app,func,end_timestamp,duration\n", "a,f,1.5,0.5\n"),
    (
        Format::AzureLlm,
        "TIMESTAMP,ContextTokens,GeneratedTokens\r\n",
        "2023-11-16 18:15:46.6805900,374,44\r\n",
    ),
    (
        Format::BurstGpt,
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n",
        "5,GPT-4,1,2,3,API log\n",
    ),
    (
        Format::BurstGpt,
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n",
        "5,9,1.5,GPT-4,1,2,3,API log\n",
    ),
    (
        Format::Mooncake,
        "",
        "{\"timestamp\": 27, \"input_length\": 5, \"output_length\": 6, \"hash_ids\": [0, 1]}\n",
    ),
    (
        Format::QwenBailian,
        "",
        "{\"chat_id\": 1, \"parent_chat_id\": -1, \"timestamp\": 0.25, \"input_length\": 5, \"output_length\": 6, \
         \"type\": \"text\", \"turn\": 1, \"hash_ids\": [3]}\n",
    ),
    (Format::ServeGen, "client,t_s,rate_rps,cv,dist,p1,p2\n", "0,600,0.085,6.69324,Gamma,0.02,73\n"),
    (
        Format::GenTd26Adapters,
        "row,type,base,exec_s,steps,images,prompt_chars,n_adapters,adapters\n",
        "0,T0,B000,22.0,30.0,1.0,54.0,2,A0000:0.8;A0014:1\n",
    ),
    (
        Format::GenTd26Requests,
        "gmt_create,predict_type,predict_status,exec_time_seconds,groupId,checkpoint_model_version_id\n",
        "2024-11-15 16:57:50,TXT_2_IMG,SUCCEED,32.0,G0000,M0000\n",
    ),
    (Format::Vidur, "arrived_at,num_prefill_tokens,num_decode_tokens\n", "1.25,10,20\n"),
    (
        Format::Splitwise,
        "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n",
        "0,2,0,0.0125,1,374,44\n",
    ),
    (
        Format::Lengths,
        "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n",
        "3772,54,3826,69.8\n",
    ),
    (Format::LlmServingSim, "", "{\"input_toks\": 5, \"output_toks\": 6, \"arrival_time_ns\": 700}\n"),
    (
        Format::ColdframeCsv,
        "arrival_s,function,adapter,base_model,prompt_tokens,output_tokens\n",
        "0.1,f,a,m,5,6\n",
    ),
    (
        Format::ColdframeJsonl,
        "",
        "{\"arrival_s\": 0.1, \"function\": \"f\", \"prompt_tokens\": 5, \"output_tokens\": 6}\n",
    ),
];

fn drain(bytes: Vec<u8>, options: &OpenOptions) -> Result<(u64, u64, u64), String> {
    let name = Path::new("hostile.csv");
    let mut stream = open_reader(std::io::Cursor::new(bytes), name, options).map_err(|e| e.to_string())?;
    let (mut records, mut refused) = (0, 0);
    // Generated formats may go on for long; what hurts shows early.
    while let Some(item) = stream.next_item().map_err(|e| e.to_string())? {
        match item {
            Item::Record(record) => {
                records += 1;
                assert!((record.function as usize) < stream.catalog().functions().len());
            }
            Item::Refused(refusal) => {
                refused += 1;
                assert!(refusal.line > 0 && !refusal.reason.is_empty());
            }
        }
        if records > 10_000 {
            break;
        }
    }
    Ok((stream.rows_in(), records, refused))
}

#[test]
fn every_format_reads_its_good_row_and_finds_itself() {
    for (format, header, row) in GOOD {
        let text = format!("{header}{row}");
        let detected = Format::detect(text.lines().next().expect("a line").as_bytes());
        assert_eq!(detected, Some(*format));
        let (rows, records, refused) = drain(text.into_bytes(), &OpenOptions::default()).expect("reads");
        let counted = matches!(format, Format::AzureFunctions2019 | Format::ServeGen);
        assert_eq!((rows, refused), (1, 0), "{format:?}");
        assert!(counted || records == 1, "{format:?}");
    }
}

#[test]
fn bad_rows_say_where_and_why() {
    let check = |text: &str, want: &[(u64, &str, &str)]| {
        let name = Path::new("bad.csv");
        let mut stream =
            open_reader(std::io::Cursor::new(text.to_owned()), name, &OpenOptions::default()).expect("opens");
        let (records, refused) = read_all(&mut stream);
        assert_eq!(stream.rows_in(), (records.len() + refused.len()) as u64, "{text}");
        let got: Vec<_> = refused.iter().map(|r| (r.line, r.column.as_str(), r.reason.as_str())).collect();
        assert_eq!(got.len(), want.len(), "{got:?}");
        for (got, want) in got.iter().zip(want) {
            assert_eq!((got.0, got.1), (want.0, want.1), "{got:?}");
            assert!(got.2.contains(want.2), "{got:?}, expected {}", want.2);
        }
        assert!(refused.iter().all(|r| r.file == name));
    };
    let native = "arrival_s,function,prompt_tokens,output_tokens";
    check(&format!("{native}\n1,f,5,6\n0.5,f,5,6\n2,f,5,6\n"), &[(3, "arrival_s", "unsorted")]);
    check(&format!("{native}\n-1,f,5,6\n"), &[(2, "arrival_s", "negative")]);
    check(&format!("{native}\nNaN,f,5,6\n"), &[(2, "arrival_s", "not a finite number")]);
    check(&format!("{native}\n1,f,5.5,6\n"), &[(2, "prompt_tokens", "whole number")]);
    check(&format!("{native}\n1,f,5,99999999999\n"), &[(2, "output_tokens", "overflows")]);
    check(&format!("{native}\n1,f,5\n"), &[(2, "output_tokens", "missing")]);
    check(&format!("{native}\n1,f,5,6,7\n"), &[(2, "", "5 fields")]);
    check(&format!("{native}\n99999999999999,f,5,6\n"), &[(2, "arrival_s", "overflows")]);
}

#[test]
fn unknown_formats_list_the_known_ones() {
    for text in ["a,b,c\n1,2,3\n", "", "\u{0}\u{1}", "{\"x\":1}"] {
        let error = drain(text.as_bytes().to_vec(), &OpenOptions::default()).expect_err("unknown");
        assert!(error.contains("azure-llm") && error.starts_with("hostile.csv:"), "{error}");
    }
}

#[test]
fn names_must_be_utf8() {
    let text = b"arrival_s,function\n0,ok\n1,\xff\xfe\n".to_vec();
    assert_eq!(drain(text, &OpenOptions::default()), Ok((2, 1, 1)));
}

#[test]
fn sorting_is_asked_for_and_bounded() {
    let text = "arrival_s,function\n3,c\n1,a\n2,b\n";
    let sorted = OpenOptions { sort: true, ..OpenOptions::default() };
    assert_eq!(drain(text.into(), &sorted), Ok((3, 3, 0)));
    let few = OpenOptions { sort: true, sort_rows_max: 2, ..OpenOptions::default() };
    assert!(drain(text.into(), &few).expect_err("too many").contains("at most 2 rows"));
}

#[test]
fn failures_of_burstgpt_are_counted_or_kept() {
    let text =
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n1,m,5,0,5,x\n2,m,5,6,11,x\n";
    assert_eq!(drain(text.into(), &OpenOptions::default()), Ok((2, 1, 1)));
    let keep = OpenOptions { keep_failures: true, ..OpenOptions::default() };
    assert_eq!(drain(text.into(), &keep), Ok((2, 2, 0)));
}

#[test]
fn cut_files_name_themselves() {
    let rows: String =
        (0..20_000).map(|i| format!("{i},fn-{},{},{}\n", i % 7, i * 31 % 977, i * 17 % 733)).collect();
    let text = format!("arrival_s,function,prompt_tokens,output_tokens\n{rows}");
    let mut gz = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    gz.write_all(text.as_bytes()).expect("memory");
    let mut gz = gz.finish().expect("memory");
    gz.truncate(gz.len() - 500);
    let mut zst = zstd::encode_all(text.as_bytes(), 3).expect("memory");
    zst.truncate(zst.len() - 500);
    for packed in [gz, zst] {
        let error = drain(packed, &OpenOptions::default());
        // The reader may stop at the limit of `drain` before it meets the cut.
        if let Err(error) = error {
            assert!(
                error.starts_with("hostile.csv:") && error.contains("fetch or copy the file again"),
                "{error}"
            );
        }
    }
    let error = open(Path::new("/no/such/file"), &OpenOptions::default()).err().expect("absent").to_string();
    assert!(error.starts_with("/no/such/file"), "{error}");
}

#[test]
fn ten_gigabytes_on_one_line() {
    let head = std::io::Cursor::new("arrival_s,function\n0,a\n1,");
    let endless = head.chain(std::io::repeat(b'x').take(10_000_000_000));
    let mut stream = open_reader(endless, Path::new("long.csv"), &OpenOptions::default()).expect("opens");
    assert!(matches!(stream.next_item(), Ok(Some(Item::Record(_)))));
    let error = stream.next_item().expect_err("too long").to_string();
    assert!(error.starts_with("long.csv:3: ") && error.contains("1048576 bytes"), "{error}");
}

fn any_format() -> impl Strategy<Value = usize> {
    0..GOOD.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(at in any_format(), bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let (format, header, row) = GOOD[at];
        let told = OpenOptions { format: Some(format), ..OpenOptions::default() };
        let _ = drain(bytes.clone(), &told);
        let _ = drain(bytes.clone(), &OpenOptions::default());
        let mut text = format!("{header}{row}").into_bytes();
        text.extend(&bytes);
        let _ = drain(text, &told);
    }

    #[test]
    fn changed_bytes_keep_the_count(
        at in any_format(),
        changes in prop::collection::vec((0usize..400, any::<u8>()), 0..6),
    ) {
        let (format, header, row) = GOOD[at];
        let mut rows = row.repeat(3).into_bytes();
        for (place, byte) in changes {
            let place = place % rows.len();
            rows[place] = byte;
        }
        let text = [header.as_bytes(), &rows].concat();
        let told = OpenOptions { format: Some(format), ..OpenOptions::default() };
        let counted = matches!(format, Format::AzureFunctions2019 | Format::ServeGen);
        if let Ok((rows, records, refused)) = drain(text, &told) && !counted {
            prop_assert_eq!(rows, records + refused);
        }
    }

    #[test]
    fn arbitrary_parquet_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        file.write_all(b"PAR1").and_then(|()| file.write_all(&bytes)).and_then(|()| file.write_all(b"PAR1")).expect("writes");
        let result = open(file.path(), &OpenOptions::default());
        prop_assert!(result.is_err());
    }
}
