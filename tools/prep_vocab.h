/*
 * tools/prep_vocab.h - the tokenizer of a corpus: checked, or trained on its text.
 *
 * To train one, the text is read once more than otherwise. Of a large corpus every k-th
 * piece counts, spread evenly, so that memory and time stay bounded; which ones depends
 * on the input alone, so the vocabulary does too.
 */
#ifndef CLLM_TOOLS_PREP_VOCAB_H
#define CLLM_TOOLS_PREP_VOCAB_H

#include <signal.h>

#include "formats/bpe_train.h"
#include "tools/prep_piece.h"

#define CLLM_PREP_SAMPLE_BYTES ((uint64_t)256 << 20) /* of files; more is thinned out */

/* Train @vocab tokens with @pattern on what @rules->input holds, @document_line between
 * its documents. @stop is looked at now and then: nonzero ends it with -EINTR. Returns 0
 * and *@out, which the caller frees; or a negative code with text. */
int cllm_prep_vocab(const struct cllm_prep_rules *rules, const char *document_line,
                    const char *pattern, uint32_t vocab, uint32_t n_threads,
                    const volatile sig_atomic_t *stop, struct cllm_tokenizer **out);

/* With special tokens allowed in texts: none may hold white space, because pieces end
 * there. Returns 0, or CLLM_ECONFIG with text. */
int cllm_prep_check_special(const struct cllm_tokenizer *tokenizer);

/* The tokenizer at @path must not lie in the output directory @dir, where it would be
 * replaced. Returns 0, or CLLM_ECONFIG with text. */
int cllm_prep_check_outside(const char *path, const char *dir);

/* The tokens between documents: of the @n bytes @separator, which stand for @given; with
 * @given NULL the end-of-text token, or a blank line where there is none. @out has room
 * for CLLM_PREP_SEPARATOR_MAX. Returns 0 or a negative code with text. */
int cllm_prep_separator(const struct cllm_tokenizer *tokenizer, const char *given,
                        const uint8_t *separator, size_t n, uint32_t *out, size_t *n_out);

#endif /* CLLM_TOOLS_PREP_VOCAB_H */
