use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Decodes a block; its fields, then the table, as RFC 7541 prints them.
fn decode(decoder: &mut Decoder, block: &str) -> (Vec<String>, Vec<String>, usize) {
    let line = |(name, value): &Field| {
        format!(
            "{}: {}",
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value)
        )
    };
    let fields = decoder.decode(&hex(block)).unwrap();
    let fields = fields.iter().map(line).collect();
    (
        fields,
        decoder.table.iter().map(line).collect(),
        decoder.size,
    )
}

#[test]
fn integers_of_appendix_c_1() {
    for (bytes, prefix, value) in [("0a", 5, 10), ("1f 9a 0a", 5, 1337), ("2a", 8, 42)] {
        assert_eq!(Reader(&hex(bytes)).integer(prefix), Ok(value));
    }
    for bytes in ["1f", "1f 80", "1f ff ff ff ff 01"] {
        assert!(Reader(&hex(bytes)).integer(5).is_err(), "{bytes}");
    }
    for length in [0, 1, 126, 127, 128, 254, 255, 1337, 65_536] {
        let mut written = Vec::new();
        write_length(&mut written, length);
        assert_eq!(Reader(&written).integer(7), Ok(length));
    }
}

#[test]
fn literals_of_appendix_c_2() {
    let mut d = Decoder::default();
    let block = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    let (fields, table, size) = decode(&mut d, block);
    assert_eq!(fields, ["custom-key: custom-header"]);
    assert_eq!((table, size), (fields, 55));
    let mut d = Decoder::default();
    for (block, field) in [
        ("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path"),
        (
            "1008 7061 7373 776f 7264 0673 6563 7265 74",
            "password: secret",
        ),
        ("82", ":method: GET"),
    ] {
        let (fields, table, size) = decode(&mut d, block);
        assert_eq!((fields, table, size), (vec![field.to_owned()], vec![], 0));
    }
}

/// Requests on one connection, without Huffman's code and with it.
#[test]
fn requests_of_appendix_c_3_and_c_4() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, coded] {
        let mut d = Decoder::default();
        let first = [
            ":method: GET",
            ":scheme: http",
            ":path: /",
            ":authority: www.example.com",
        ];
        let (fields, table, size) = decode(&mut d, blocks[0]);
        assert_eq!(fields, first);
        assert_eq!((table, size), (vec![first[3].to_owned()], 57));
        let (fields, table, size) = decode(&mut d, blocks[1]);
        assert_eq!(fields[..4], first);
        assert_eq!(fields[4], "cache-control: no-cache");
        assert_eq!(table, ["cache-control: no-cache", first[3]]);
        assert_eq!(size, 110);
        let (fields, table, size) = decode(&mut d, blocks[2]);
        let third = [
            ":method: GET",
            ":scheme: https",
            ":path: /index.html",
            ":authority: www.example.com",
            "custom-key: custom-value",
        ];
        assert_eq!(fields, third);
        assert_eq!(table, [third[4], "cache-control: no-cache", first[3]]);
        assert_eq!(size, 164);
    }
}

/// Answers on one connection whose table has room for 256 bytes.
#[test]
fn responses_of_appendix_c_5_and_c_6() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 \
         2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 \
         6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d \
         54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 \
         5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e \
         3d31",
    ];
    let coded = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 \
         2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab \
         77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f \
         9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    for blocks in [plain, coded] {
        let mut d = Decoder::default();
        d.resize(256).unwrap();
        let old = "date: Mon, 21 Oct 2013 20:13:21 GMT";
        let new = "date: Mon, 21 Oct 2013 20:13:22 GMT";
        let (private, url) = (
            "cache-control: private",
            "location: https://www.example.com",
        );
        let cookie = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
        let (fields, table, size) = decode(&mut d, blocks[0]);
        assert_eq!(fields, [":status: 302", private, old, url]);
        assert_eq!(table, [url, old, private, ":status: 302"]);
        assert_eq!(size, 222);
        let (fields, table, size) = decode(&mut d, blocks[1]);
        assert_eq!(fields, [":status: 307", private, old, url]);
        assert_eq!(table, [":status: 307", url, old, private]);
        assert_eq!(size, 222);
        let (fields, table, size) = decode(&mut d, blocks[2]);
        let gzip = "content-encoding: gzip";
        assert_eq!(fields, [":status: 200", private, new, url, gzip, cookie]);
        assert_eq!(table, [cookie, gzip, new]);
        assert_eq!(size, 215);
    }
}

#[test]
fn written_fields_are_read_again() {
    let long = "x".repeat(5000);
    let mut block = Vec::new();
    write(&mut block, ":path", "/é");
    write(&mut block, "long", &long);
    let fields = Decoder::default().decode(&block).unwrap();
    assert_eq!(fields[0], (b":path".to_vec(), "/é".as_bytes().to_vec()));
    assert_eq!(fields[1].1, long.as_bytes());
}

#[test]
fn wrong_blocks_are_refused() {
    for (block, why) in [
        ("80", "no table"),
        ("be", "no table"),
        ("ff ff ff ff 7f", "no table"),
        ("40", "cut off"),
        ("40 05 61", "cut off"),
        ("04 ff ff ff ff 7f", "cut off"),
        ("04 81 ff", "Huffman"),
        ("3f e2 1f", "beyond"),
        ("82 20", "midst"),
        ("7f ff ff ff ff ff", "without end"),
    ] {
        let found = Decoder::default().decode(&hex(block));
        let e = found.unwrap_err();
        assert!(e.contains(why), "{block}: {e}");
    }
}

#[test]
fn lists_and_the_table_are_bounded() {
    // A field as large as the table, named again and again by one byte.
    let mut d = Decoder::default();
    let mut block = vec![0x40, 1, b'a'];
    write_length(&mut block, TABLE_MOST - OVERHEAD - 1);
    block.resize(block.len() + TABLE_MOST - OVERHEAD - 1, b'b');
    d.decode(&block).unwrap();
    assert_eq!((d.table.len(), d.size), (1, TABLE_MOST));
    assert_eq!(d.decode(&[0xbe; 16]).unwrap().len(), 16);
    assert!(d.decode(&[0xbe; 17]).is_err());
    // One byte more has no room, and empties the table.
    let mut block = vec![0x40, 1, b'a'];
    write_length(&mut block, TABLE_MOST - OVERHEAD);
    block.resize(block.len() + TABLE_MOST - OVERHEAD, b'b');
    d.decode(&block).unwrap();
    assert_eq!((d.table.len(), d.size), (0, 0));
    // A table without room takes nothing.
    d.decode(&hex("20 40 01 61 01 62")).unwrap();
    assert_eq!((d.table.len(), d.size), (0, 0));
}
