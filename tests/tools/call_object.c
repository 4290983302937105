// Calls an object of Stepwell's on the machine that it is for: a frame and its arrays in, the same out.
//
// The file is a row of int64: slots, bytes of data, relocations, threads, the slots of arena, arena_bytes and
// arena_base, bytes of arena; (slot, offset in the data) for each relocation; the frame's words; the data.

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

extern int32_t entry(void *frame, int32_t thread) __asm__(ENTRY);

static int64_t *frame;

static void *work(void *thread) {
    entry(frame, (int32_t)(intptr_t)thread);
    return 0;
}

static void must(int fine) {
    if (!fine) {
        perror("call_object");
        exit(2);
    }
}

int main(int count, char **names) {
    enum { SLOTS, BYTES, RELOCATIONS, THREADS, ARENA, ARENA_BYTES, ARENA_BASE, ARENA_SIZE, HEAD };
    int64_t head[HEAD];
    must(count == 3);
    FILE *file = fopen(names[1], "rb");
    must(file && fread(head, sizeof head, 1, file) == 1);
    int64_t *places = malloc(16 * head[RELOCATIONS] + 1);
    frame = aligned_alloc(64, (head[SLOTS] * 8 + 63) & -64);
    char *data = aligned_alloc(64, (head[BYTES] + 64) & -64);
    must(fread(places, 16, head[RELOCATIONS], file) == (size_t)head[RELOCATIONS]);
    must(fread(frame, 8, head[SLOTS], file) == (size_t)head[SLOTS]);
    must(fread(data, 1, head[BYTES], file) == (size_t)head[BYTES]);
    fclose(file);
    for (int64_t i = 0; i < head[RELOCATIONS]; i++)
        frame[places[2 * i]] = (int64_t)(data + places[2 * i + 1]);
    char *base = malloc(head[ARENA_SIZE] + 64);
    frame[head[ARENA_BASE]] = (int64_t)base;
    frame[head[ARENA]] = ((int64_t)base + 63) & -64;
    frame[head[ARENA_BYTES]] = head[ARENA_SIZE];
    pthread_t others[64];
    for (int64_t i = 1; i < head[THREADS]; i++)
        must(pthread_create(&others[i], 0, work, (void *)(intptr_t)i) == 0);
    int64_t status = entry(frame, 0);
    for (int64_t i = 1; i < head[THREADS]; i++)
        pthread_join(others[i], 0);
    file = fopen(names[2], "wb");
    must(file && fwrite(&status, 8, 1, file) == 1);
    must(fwrite(frame, 8, head[SLOTS], file) == (size_t)head[SLOTS]);
    must(fwrite(data, 1, head[BYTES], file) == (size_t)head[BYTES]);
    fclose(file);
    return 0;
}
