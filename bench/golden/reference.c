// What llama.cpp computes for a model: the truth that crates/engine/tests/golden_models.rs compares with.
//
// usage: reference logits MODEL N_GREEDY < prompt-ids     largest logits after every token of the prompt, greedy tokens
//        reference perplexity MODEL TEXT N_CTX            as llama-perplexity, with more digits
//        reference embed MODEL mean|last < lines          tokens and embedding of every line, of length 1
// Prints JSON. One thread, and one sequence of tokens in one batch.
#include <llama.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOP 10

static void quiet(enum ggml_log_level level, const char *text, void *data) {
    (void)data;
    if (level >= GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static void die(const char *what) {
    fprintf(stderr, "reference: %s\n", what);
    exit(1);
}

static void decode(struct llama_context *ctx, llama_token *tokens, int n, int position, int all) {
    struct llama_batch batch = llama_batch_init(n, 0, 1);
    batch.n_tokens = n;
    for (int i = 0; i < n; i++) {
        batch.token[i] = tokens[i];
        batch.pos[i] = position + i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = all || i == n - 1;
    }
    if (llama_decode(ctx, batch)) die("cannot decode");
    llama_batch_free(batch);
}

static int argmax(const float *logits, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static void print_top(const float *logits, int n) {
    int taken[TOP];
    printf("[");
    for (int k = 0; k < TOP; k++) {
        int best = -1;
        for (int i = 0; i < n; i++) {
            int used = 0;
            for (int j = 0; j < k; j++) used |= taken[j] == i;
            if (!used && (best < 0 || logits[i] > logits[best])) best = i;
        }
        taken[k] = best;
        printf("%s[%d, %.9g]", k ? ", " : "", best, logits[best]);
    }
    printf("]");
}

static void logits(struct llama_context *ctx, int n_vocab, int n_greedy) {
    llama_token prompt[512];
    int n = 0;
    while (n < 512 && scanf("%d", &prompt[n]) == 1) n++;
    if (n == 0) die("no prompt");
    decode(ctx, prompt, n, 0, 1);
    printf("{\"prompt\": [");
    for (int i = 0; i < n; i++) printf("%s%d", i ? ", " : "", prompt[i]);
    printf("],\n\"top\": [\n");
    for (int i = 0; i < n; i++) {
        print_top(llama_get_logits_ith(ctx, i), n_vocab);
        printf(i + 1 < n ? ",\n" : "\n");
    }
    printf("],\n\"greedy\": [");
    llama_token next = argmax(llama_get_logits_ith(ctx, n - 1), n_vocab);
    for (int i = 0; i < n_greedy; i++) {
        printf("%s%d", i ? ", " : "", next);
        decode(ctx, &next, 1, n + i, 0);
        next = argmax(llama_get_logits_ith(ctx, -1), n_vocab);
    }
    printf("]}\n");
}

static void perplexity(struct llama_context *ctx, const struct llama_vocab *vocab, const char *path, int n_ctx) {
    FILE *file = fopen(path, "rb");
    if (!file) die("cannot open the text");
    static char text[1 << 22];
    size_t length = fread(text, 1, sizeof text, file);
    fclose(file);
    static llama_token tokens[1 << 20];
    int n = llama_tokenize(vocab, text, (int)length, tokens, 1 << 20, true, false);
    int n_vocab = llama_vocab_n_tokens(vocab);
    double sum = 0;
    long count = 0;
    for (int start = 0; start + n_ctx <= n; start += n_ctx) {
        if (llama_vocab_get_add_bos(vocab)) tokens[start] = llama_vocab_bos(vocab);
        llama_memory_clear(llama_get_memory(ctx), true);
        decode(ctx, tokens + start, n_ctx, 0, 1);
        for (int i = n_ctx / 2; i < n_ctx - 1; i++, count++) {
            const float *row = llama_get_logits_ith(ctx, i);
            double max = row[argmax(row, n_vocab)], total = 0;
            for (int j = 0; j < n_vocab; j++) total += exp(row[j] - max);
            sum += max + log(total) - row[tokens[start + i + 1]];
        }
    }
    if (count == 0) die("the text is too short");
    printf("{\"tokens\": %ld, \"perplexity\": %.6f}\n", count, exp(sum / count));
}

static void embed(struct llama_context *ctx, const struct llama_vocab *vocab, int n_embd) {
    static char line[1 << 16];
    static llama_token tokens[512];
    const char *separator = "";
    printf("[");
    while (fgets(line, sizeof line, stdin)) {
        int n = llama_tokenize(vocab, line, (int)strcspn(line, "\n"), tokens, 512, true, false);
        if (n <= 0) die("a line is empty or too long");
        llama_memory_clear(llama_get_memory(ctx), true);
        decode(ctx, tokens, n, 0, 1);
        const float *row = llama_get_embeddings_seq(ctx, 0);
        if (!row) die("there is no embedding");
        double squares = 0;
        for (int i = 0; i < n_embd; i++) squares += (double)row[i] * row[i];
        printf("%s{\"tokens\": [", separator);
        for (int i = 0; i < n; i++) printf("%s%d", i ? ", " : "", tokens[i]);
        printf("], \"embedding\": [");
        for (int i = 0; i < n_embd; i++) printf("%s%.7g", i ? ", " : "", row[i] / sqrt(squares));
        printf("]}");
        separator = ", ";
    }
    printf("]\n");
}

int main(int argc, char **argv) {
    if (argc < 4) die("see the usage in the source");
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model *model = llama_model_load_from_file(argv[2], llama_model_default_params());
    if (!model) die("cannot load the model");
    int is_logits = strcmp(argv[1], "logits") == 0;
    int is_embed = strcmp(argv[1], "embed") == 0;
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = is_logits || is_embed ? 512 : atoi(argv[4]);
    params.embeddings = is_embed;
    if (is_embed) params.pooling_type = strcmp(argv[3], "mean") ? LLAMA_POOLING_TYPE_LAST : LLAMA_POOLING_TYPE_MEAN;
    params.n_batch = params.n_ubatch = params.n_ctx;
    params.n_threads = params.n_threads_batch = 1;
    struct llama_context *ctx = llama_init_from_model(model, params);
    if (!ctx) die("cannot make a context");
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    if (is_embed) embed(ctx, vocab, llama_model_n_embd(model));
    else if (is_logits) logits(ctx, llama_vocab_n_tokens(vocab), atoi(argv[3]));
    else perplexity(ctx, vocab, argv[3], atoi(argv[4]));
    return 0;
}
