/* SPDX-License-Identifier: MIT */
/* tests/infer/tokenizers.h - small tokenizers made by hand, in the scratch folder of tmp.h, and the
 * demonstration model's. JSON is written with ' for ". The caller closes what it gets. */
#ifndef NIB_TESTS_INFER_TOKENIZERS_H
#define NIB_TESTS_INFER_TOKENIZERS_H

#include "infer/tokenizer.h"
#include "tests/calib/tmp.h"
#include "tests/formats/make.h"

/* A model's folder with these as tokenizer.json, tokenizer_config.json and generation_config.json;
 * NULL: without. config.json names 9 as its BOS, 8 as its EOS. */
nib_source *open_folder(const char *tokenizer, const char *config, const char *generation);
/* One more file of that folder. The next open_folder() removes added_tokens.json and
 * special_tokens_map.json. */
void side_file(const char *name, const char *json);
/* The tokenizer of a source; fails the test with the message when there is none. */
nib_tokenizer *must_load(const nib_source *s);
nib_tokenizer *by_hand(const char *tokenizer, const char *config);
nib_tokenizer *tiny_tokenizer(void);
/* The tokenizer as it comes back from a GGUF file with n_vocab rows. */
nib_tokenizer *through_gguf(const nib_tokenizer *t, size_t n_vocab);
/* As it comes back from the files of a folder. */
nib_tokenizer *through_folder(const nib_tokenizer *t);

/* Ids as text: "1 2 3". Two are valid at a time. */
const char *ids_of(const nib_tokenizer *t, const char *text, unsigned flags);

/* Parts of a tokenizer.json, and a whole one of ten tokens. */
#define BYTE_LEVEL "{'type':'ByteLevel','add_prefix_space':false,'use_regex':true}"
#define VOCAB                                                                                      \
    "{'a':0,'b':1,'c':2,'\u0120':3,'ab':4,'\u0120a':5,'abc':6,'\u0120ab':7,'<s>':8,'</s>':9}"
#define MERGES "['a b','\u0120 a',['ab','c'],['\u0120','ab']]"
#define MODEL "'model':{'type':'BPE','vocab':" VOCAB ",'merges':" MERGES "}"
#define ADDED(ID, TEXT, MORE) "{'id':" ID ",'content':'" TEXT "'" MORE "}"
#define SPECIALS ADDED("8", "<s>", ",'special':true") "," ADDED("9", "</s>", ",'special':true")
#define TOKENIZER(ADD, MORE)                                                                       \
    "{'added_tokens':[" ADD "],'pre_tokenizer':" BYTE_LEVEL "," MORE MODEL "}"

#define TEMPLATE(LIST) "'post_processor':{'type':'TemplateProcessing','single':[" LIST "]},"
#define SPECIAL(S) "{'SpecialToken':{'id':'" S "','type_id':0}}"
#define TEXT "{'Sequence':{'id':'A','type_id':0}}"

#endif
