/* SPDX-License-Identifier: MIT */
/* Sample files to text: each kind, plain and compressed, and what is refused. */
#include "base/mem.h"
#include "calib/text.h"
#include "tests/infer/tokenizers.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static void reads(const char *path, const char *want)
{
    char *text;
    size_t n;
    nib_err err = {0};
    if (nib_text_read(&text, &n, path, NULL, &err)) fail_msg("%s", err.msg);
    assert_int_equal(n, strlen(want));
    assert_string_equal(text, want);
    nib_free(text);
}

static void refuses(const char *path, nib_code code, const char *part)
{
    char *text = NULL;
    size_t n;
    nib_err err = {0};
    assert_int_equal(nib_text_read(&text, &n, path, NULL, &err), code);
    assert_null(text);
    tmp_expect(err.msg, part);
    tmp_expect(err.msg, path);
}

static void plain_text_is_taken_as_it_is(void **state)
{
    (void)state;
    reads(tmp_text("a.txt", "One.\n\n  Two \xC3\xA9 \xFF.\n"), "One.\n\n  Two \xC3\xA9 \xFF.\n");
    reads(tmp_text("no-suffix", "{\"text\": \"not JSON lines\"}"),
          "{\"text\": \"not JSON lines\"}");
}

static void gzip_is_found_from_the_contents(void **state)
{
    (void)state;
    reads(tmp_gzip("b.txt", "Compressed,\nwithout saying so.\n"),
          "Compressed,\nwithout saying so.\n");
    reads(tmp_gzip("b.jsonl.gz", "{\"text\":\"one\"}\n{\"text\":\"two\"}\n"), "one\n\ntwo");
    reads(tmp_text("c.txt.gz", "not compressed at all"), "not compressed at all");
}

static void json_lines_give_text_or_messages(void **state)
{
    (void)state;
    reads(tmp_text("d.jsonl", "{\"text\": \"A\\u00e9 \\\"b\\\"\\n\", \"id\": 7}\r\n"
                              "\n   \n"
                              "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi?\"},"
                              "{\"role\": \"assistant\", \"content\": null},"
                              "{\"role\": \"assistant\", \"content\": \"Yes.\"}]}\n"
                              "{\"text\": \"last, no line break\"}"),
          "A\xC3\xA9 \"b\"\n\n\nuser: Hi?\nassistant: Yes.\n\nlast, no line break");
    reads(tmp_text("e.JSON", "{\"text\":\"x\"}"), "x");
    /* The shortest documents have the least JSON around them. */
    reads(tmp_text("f.jsonl", "{\"text\":\"x\"}\n{\"messages\":[{\"role\":\"\",\"content\":\"\"},"
                              "{\"role\":\"\",\"content\":\"\"}]}\n{\"text\":\"y\"}"),
          "x\n\n: \n: \n\ny");
}

/* Of datasets as they are published: plain continuations, ShareGPT's conversations, arrays. */
static void other_members_and_arrays(void **state)
{
    (void)state;
    reads(tmp_text("g.jsonl",
                   "{\"content\": \"a file\", \"path\": \"x.py\"}\n"
                   "{\"prompt\": \"Why?\", \"completion\": \" So.\"}\n"
                   "{\"prompt\": \"alone\"}\n"
                   "{\"id\": 1, \"conversations\": [{\"from\": \"human\", \"value\": \"Hi\"},"
                   "{\"from\": \"gpt\", \"value\": \"Hello\"}]}\n"),
          "a file\n\nWhy? So.\n\nalone\n\nhuman: Hi\ngpt: Hello");
    /* What holds more of a document goes before what holds less. */
    reads(tmp_text("h.jsonl", "{\"prompt\": \"Hi\", \"messages\": [{\"role\": \"user\", "
                              "\"content\": \"Hi\"}]}\n{\"content\": \"c\", \"text\": \"t\"}"),
          "user: Hi\n\nt");
    reads(tmp_gzip("i.json.gz", " [\n {\n  \"text\": \"one\"\n },\n {\"content\": \"two\"}]\n"),
          "one\n\ntwo");
    reads(tmp_text("j.json", "[{\"text\":\"\"},{\"text\":\"x\"},{\"text\":\"\"}]"), "x\n\n");
    refuses(tmp_text("k.json", "[{\"text\":\"x\"},{\"txt\":\"y\"}]"), NIB_EFORMAT,
            "document 2: has none of");
    refuses(tmp_text("l.json", "[{\"text\":\"x\"}"), NIB_EFORMAT, "not valid JSON");
}

/* ---- conversations for a chat template ---- */

/* Its template shows all that it is given. */
static nib_tokenizer *chatty;

static int make(void **state)
{
    if (tmp_make(state)) return 1;
    chatty = by_hand(TOKENIZER(SPECIALS, ""),
                     "{'bos_token':'<s>','chat_template':'{{ bos_token }}{% for m in messages %}"
                     "[{{ m.role }}:{{ m.content }}{{ m.more }}]{% endfor %}{{ tools if tools }}"
                     "{{ documents if documents }}{{ think }}'}");
    return 0;
}

static int clean_up(void **state)
{
    nib_tokenizer_close(chatty);
    return tmp_remove(state);
}

static void chats(const char *path, const char *want)
{
    char *text;
    size_t n;
    nib_err err = {0};
    if (nib_text_read(&text, &n, path, chatty, &err)) fail_msg("%s", err.msg);
    assert_string_equal(text, want);
    assert_int_equal(n, strlen(want));
    nib_free(text);
}

static void refuses_chat(const char *path, const char *part)
{
    char *text = NULL;
    size_t n;
    nib_err err = {0};
    assert_int_equal(nib_text_read(&text, &n, path, chatty, &err), NIB_EFORMAT);
    assert_null(text);
    tmp_expect(err.msg, part);
    tmp_expect(err.msg, path);
}

static void conversations_go_through_the_template(void **state)
{
    (void)state;
    chats(tmp_text(
              "chat.jsonl",
              "{\"text\": \"not this\", \"messages\": [{\"role\": \"user\", \"content\": \"Hi\", "
              "\"more\": 1}, {\"role\": \"x\", \"content\": null}]}\n\n"
              "{\"messages\": [], \"tools\": [1], \"documents\": [2], "
              "\"chat_template_kwargs\": {\"think\": 3}, \"id\": 4}"),
          "<s>[user:Hi1][x:None]<s>[1][2]3");
    /* whatever the name is, arrays too, and longer than the JSON */
    chats(tmp_gzip("chat.txt", " [{\"messages\": []}, {\"messages\": [{\"role\": \"r\"}]}]"),
          "<s><s>[r:]");
    chats(tmp_text("empty.jsonl", "\n"), "");
}

static void sharegpt_is_translated(void **state)
{
    (void)state;
    chats(
        tmp_text("s.jsonl",
                 "{\"conversations\": [{\"from\": \"human\", \"value\": \"a\"}, "
                 "{\"from\": \"gpt\", \"value\": \"b\"}, {\"from\": \"observation\", "
                 "\"value\": \"c\"}], \"system\": \"S\", \"tools\": \"[{}]\"}\n"
                 "{\"conversations\": [{\"from\": \"system\", \"value\": \"T\"}], "
                 "\"system\": \"S\", \"tools\": \"\"}\n"
                 "{\"messages\": [{\"from\": \"user\", \"value\": \"d\"}]}\n"
                 "{\"conversations\": [{\"role\": \"user\", \"content\": \"e\"}], \"system\": 1}"),
        "<s>[system:S][user:a][assistant:b][tool:c][{}]<s>[system:T]<s>[user:d]<s>[user:e]");
}

static void what_is_no_conversation_is_refused(void **state)
{
    static const struct {
        const char *line, *part;
    } bad[] = {
        {"{\"text\": \"a\"}", "line 1: has neither 'messages' nor 'conversations'"},
        {"[1]", "document 1: not a JSON object"},
        {"plain text", "line 1: JSON line 1, column 1: not valid JSON"},
        {"{\"messages\": \"a\"}", "'messages' is not a list"},
        {"{\"messages\": [1]}", "message 1 has neither 'role' nor 'from'"},
        {"{\"messages\": [{\"from\": \"gpt\", \"value\": 1}]}", "message 1 has no 'from' and"},
        {"{\"messages\": [{\"from\": \"gpt\", \"value\": \"\"}, {\"role\": \"user\"}]}",
         "message 2 has no 'from' and 'value'"},
        {"{\"conversations\": [{\"from\": \"he\", \"value\": \"\"}]}", "message 1 is from 'he'"},
        {"{\"messages\": [], \"tools\": {}}", "'tools' is not a list"},
        {"{\"messages\": [], \"tools\": \"[\"}", "'tools': JSON line 1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuses_chat(tmp_text("bad.jsonl", bad[i].line), bad[i].part);
}

/* U+FFFD in place of half a pair; pairs, and backslashes before a 'u', stay. */
static void lone_surrogates_are_replaced(void **state)
{
    (void)state;
    reads(tmp_text("m.jsonl", "{\"text\": \"a\\ud83d\"}\n"
                              "{\"text\": \"\\ude00b \\ud83d\\ude00 \\\\ud83d\"}\n"
                              "{\"text\": \"\\ud83d\\ud83d\\uDE00\"}"),
          "a\xEF\xBF\xBD\n\n\xEF\xBF\xBD"
          "b \xF0\x9F\x98\x80 \\ud83d\n\n\xEF\xBF\xBD\xF0\x9F\x98\x80");
}

static void pipes_are_files(void **state)
{
    (void)state;
    const char *path = tmp_path("pipe.jsonl");
    assert_int_equal(mkfifo(path, 0600), 0);
    pid_t pid = fork();
    if (!pid) {
        int fd = open(path, O_WRONLY);
        _exit(write(fd, "{\"text\":\"piped\"}\n", 17) == 17 ? 0 : 1);
    }
    reads(path, "piped");
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void bytes_are_unpacked_and_no_more(void **state)
{
    (void)state;
    char *text;
    size_t n;
    nib_err err = {0};
    assert_int_equal(nib_text_bytes(&text, &n, tmp_gzip("ids.json", "[1, 2]\n"), &err), NIB_OK);
    assert_string_equal(text, "[1, 2]\n");
    nib_free(text);
}

static void long_texts_are_whole(void **state)
{
    (void)state;
    size_t n = 3u << 20;
    char *big = nib_alloc(n + 1, 1);
    for (size_t i = 0; i < n; i++) big[i] = (char)('a' + i * 2654435761u % 26);
    big[n] = 0;
    reads(tmp_text("big.txt", big), big);
    reads(tmp_gzip("big.txt.gz", big), big);
    nib_free(big);
}

static void bad_lines_are_named(void **state)
{
    (void)state;
    const char *ok = "{\"text\":\"fine\"}\n\n";
    static const struct {
        const char *line, *part;
    } bad[] = {
        {"{\"text\":\"open", "line 3"},
        {"[1]", "line 3: not a JSON object"},
        {"{\"txt\":\"x\"}", "line 3: has none of 'text', 'messages', 'conversations', 'content'"},
        {"{\"content\":[1]}", "line 3: 'content' is not a string"},
        {"{\"prompt\":\"x\",\"completion\":1}", "line 3: 'completion' is not a string"},
        {"{\"conversations\":[{\"from\":\"human\"}]}", "line 3: message 1 has no 'content'"},
        {"{\"text\":5}", "line 3: 'text' is not a string"},
        {"{\"messages\":\"x\"}", "line 3: 'messages' is not a list"},
        {"{\"messages\":[{\"content\":\"x\"}]}", "line 3: message 1 has no 'role'"},
        {"{\"messages\":[{\"role\":\"u\",\"content\":\"x\"},{\"role\":\"u\"}]}",
         "line 3: message 2 has no 'content'"},
        {"{\"text\":\"x\"} {\"text\":\"y\"}", "line 3"},
        {"{\"text\":\"x\\u0000y\"}", "NUL"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[256];
        snprintf(text, sizeof text, "%s%s", ok, bad[i].line);
        refuses(tmp_text("bad.jsonl", text), NIB_EFORMAT, bad[i].part);
    }
}

static void files_without_text_are_refused(void **state)
{
    (void)state;
    refuses(tmp_path("absent.txt"), NIB_EIO, "No such file");
    refuses(tmp_path(""), NIB_EIO, "directory");
    refuses(tmp_write("binary.txt", "GIF\1\0\2", 6), NIB_EFORMAT, "byte 4 is NUL");
    refuses(tmp_text("a.bz2", "BZh91AY&SY"), NIB_EFORMAT, "bzip2");
    refuses(tmp_text("a.zst", "\x28\xB5\x2F\xFD$"), NIB_EFORMAT, "zstd");
    refuses(tmp_write("a.jsonl.xz",
                      "\xFD"
                      "7zXZ\0",
                      6),
            NIB_EFORMAT, "xz");
    refuses(tmp_write("a.parquet", "PAR1\x15\4", 6), NIB_EFORMAT, "Parquet");
    refuses(tmp_write("a.gguf", "GGUF\3\0\0\0", 8), NIB_EFORMAT, "a GGUF file");
    refuses(tmp_write("a.safetensors", "\x40\0\0\0\0\0\0\0{}", 10), NIB_EFORMAT, "a model");
    refuses(tmp_write("le.txt", "\xFF\xFEH\0i\0", 6), NIB_EFORMAT, "UTF-16");
    refuses(tmp_write("be.txt", "\xFE\xFF\0H\0i", 6), NIB_EFORMAT, "iconv");
}

/* Every cut of a gzip file, and a flipped byte of its data, is an error and not a short text. */
static void damaged_gzip_is_refused(void **state)
{
    (void)state;
    unsigned char gz[512];
    FILE *f = fopen(tmp_gzip("good.gz", "The text of a file that will be cut somewhere.\n"), "rb");
    assert_non_null(f);
    size_t n = fread(gz, 1, sizeof gz, f);
    fclose(f);
    for (size_t cut = 3; cut < n; cut++) refuses(tmp_write("cut.gz", gz, cut), NIB_EFORMAT, "");
    gz[n - 6] ^= 1;
    refuses(tmp_write("crc.gz", gz, n), NIB_EFORMAT, "damaged gzip");
}

static void runs_out(const char *path, const nib_tokenizer *chat)
{
    for (long at = 1;; at++) {
        char *text = NULL;
        size_t n;
        nib_err err = {0};
        nib_mem_fail_at(at);
        nib_code rc = nib_text_read(&text, &n, path, chat, &err);
        nib_mem_fail_at(0);
        nib_free(text);
        if (!rc) break;
        assert_null(text);
        assert_true(at < 200);
    }
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    runs_out(tmp_gzip("m.jsonl.gz", "{\"text\":\"one\"}\n{\"text\":\"two\"}\n"), NULL);
    runs_out(tmp_text("m.jsonl", "{\"messages\":[{\"from\":\"gpt\",\"value\":\"x\"}],"
                                 "\"system\":\"S\",\"tools\":\"[1]\"}\n{\"messages\":[]}"),
             chatty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_text_is_taken_as_it_is),
        cmocka_unit_test(gzip_is_found_from_the_contents),
        cmocka_unit_test(json_lines_give_text_or_messages),
        cmocka_unit_test(other_members_and_arrays),
        cmocka_unit_test(conversations_go_through_the_template),
        cmocka_unit_test(sharegpt_is_translated),
        cmocka_unit_test(what_is_no_conversation_is_refused),
        cmocka_unit_test(lone_surrogates_are_replaced),
        cmocka_unit_test(pipes_are_files),
        cmocka_unit_test(bytes_are_unpacked_and_no_more),
        cmocka_unit_test(long_texts_are_whole),
        cmocka_unit_test(bad_lines_are_named),
        cmocka_unit_test(files_without_text_are_refused),
        cmocka_unit_test(damaged_gzip_is_refused),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, make, clean_up);
}
