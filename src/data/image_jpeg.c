/* JPEG through libjpeg-turbo's libjpeg API. */
#include "data/image_codec.h"

#include <stdio.h>
#include <setjmp.h>
#include <string.h>
#include <jpeglib.h>
#include <jerror.h>

static const char replace_file[] = "replace the file by a good copy, or take it out of the dataset";
static const char convert_file[] = "convert it to an 8-bit baseline or progressive JPEG, or to PNG";

/* --- header -------------------------------------------------------------------------------------------------- */

enum {
    MARKER_SOF0 = 0xc0,
    MARKER_DHT = 0xc4,
    MARKER_JPG = 0xc8,
    MARKER_DAC = 0xcc,
    MARKER_SOF15 = 0xcf,
    MARKER_RST0 = 0xd0,
    MARKER_SOI = 0xd8,
    MARKER_EOI = 0xd9,
    MARKER_SOS = 0xda,
    MARKER_APP1 = 0xe1,
    MARKER_TEM = 0x01
};

static bool is_frame_marker(int marker) {
    return marker >= MARKER_SOF0 && marker <= MARKER_SOF15 && marker != MARKER_DHT && marker != MARKER_JPG &&
           marker != MARKER_DAC;
}

/* A frame header's sizes and kind. Each block of a Huffman coded picture costs at least one bit. */
static status check_frame(image_markers *out, int marker, const uint8_t *frame, size_t length) {
    enum { BASELINE = 0xc0, PROGRESSIVE = 0xc2, ARITHMETIC = 0xc9, ARITHMETIC_PROGRESSIVE = 0xca };
    if (length < 6)
        return error_set(STATUS_DATA, replace_file, "damaged JPEG: a frame header of %zu bytes", length);
    bool huffman = marker >= BASELINE && marker <= PROGRESSIVE;
    if (!huffman && marker != ARITHMETIC && marker != ARITHMETIC_PROGRESSIVE)
        return error_set(STATUS_DATA, convert_file, "this JPEG is %s (SOF%d), which is not supported",
                         (marker & 3) == 3 ? "lossless" : "hierarchical", marker - MARKER_SOF0);
    if (frame[0] != 8)
        return error_set(STATUS_DATA, convert_file, "this JPEG has %d bits per sample; only 8 are supported",
                         frame[0]);
    int height = frame[1] << 8 | frame[2], width = frame[3] << 8 | frame[4];
    if (height == 0 || width == 0)
        return error_set(STATUS_DATA, replace_file, "damaged JPEG: a picture of %d x %d pixels", width,
                         height);
    uint64_t blocks = (uint64_t)((height + 7) / 8) * (uint64_t)((width + 7) / 8);
    out->least_bytes = huffman ? blocks / 8 : 0;
    out->header.stored_height = height;
    out->header.stored_width = width;
    return STATUS_OK;
}

status image_jpeg_header(image_markers *out, const uint8_t *bytes, size_t size) {
    bool have_exif = false;
    int frame_marker = 0;
    const uint8_t *frame = NULL;
    size_t frame_length = 0, at = 2;
    for (;;) {
        while (at < size && bytes[at] != 0xff) at++; /* stray bytes, as libjpeg skips them */
        while (at < size && bytes[at] == 0xff) at++;
        if (at >= size) break;
        int marker = bytes[at++];
        if (marker == 0 || marker == MARKER_TEM || (marker >= MARKER_RST0 && marker <= MARKER_SOI)) continue;
        if (marker == MARKER_EOI || marker == MARKER_SOS) {
            if (!frame)
                return error_set(STATUS_DATA, replace_file, "damaged JPEG: %s before a frame header",
                                 marker == MARKER_SOS ? "a scan" : "end of picture");
            return check_frame(out, frame_marker, frame, frame_length);
        }
        if (size - at < 2) break;
        size_t length = (size_t)bytes[at] << 8 | bytes[at + 1];
        if (length < 2)
            return error_set(STATUS_DATA, replace_file, "damaged JPEG: a segment of length %zu", length);
        if (length > size - at) break;
        const uint8_t *segment = bytes + at + 2;
        length -= 2;
        if (is_frame_marker(marker) && !frame) {
            frame_marker = marker;
            frame = segment;
            frame_length = length;
        }
        if (marker == MARKER_APP1 && !have_exif && length > 6 && memcmp(segment, "Exif\0\0", 6) == 0) {
            have_exif = true;
            out->header.orientation = image_exif_orientation(segment + 6, length - 6);
        }
        at += length + 2;
    }
    out->incomplete = true;
    return error_set(STATUS_DATA, replace_file,
                     "damaged JPEG: it ends before the first scan, after %zu bytes", size);
}

/* --- pixels -------------------------------------------------------------------------------------------------- */

typedef struct jpeg_reader {
    struct jpeg_decompress_struct decoder;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf on_error;
    status result;
    bool past_end; /* the decoder asked for bytes behind the last one */
    int max_scans;
} jpeg_reader;

static jpeg_reader *reader_of(j_common_ptr decoder) {
    return decoder->client_data;
}

static void fail(j_common_ptr decoder) {
    jpeg_reader *reader = reader_of(decoder);
    char text[JMSG_LENGTH_MAX];
    decoder->err->format_message(decoder, text);
    if (decoder->err->msg_code == JERR_OUT_OF_MEMORY)
        reader->result = error_set(STATUS_OS, NULL, "no memory to decode a JPEG (%s)", text);
    else if (decoder->err->msg_code == JERR_NO_BACKING_STORE)
        reader->result =
            error_set(STATUS_DATA, convert_file, "the JPEG needs more memory than its size explains");
    else
        reader->result = error_set(STATUS_DATA, replace_file, "damaged JPEG: %s", text);
    longjmp(reader->on_error, 1);
}

/* libjpeg goes on after warnings and fills with gray. Those that mean lost pixels end the decoding here. Data
 * of a progressive refinement that stop early only cost sharpness, and some encoders leave them so. */
static void warn(j_common_ptr common, int level) {
    if (level >= 0) return;
    j_decompress_ptr decoder = (j_decompress_ptr)common;
    bool first_pass = !decoder->progressive_mode || (decoder->Ss == 0 && decoder->Ah == 0);
    switch (common->err->msg_code) {
    case JWRN_HIT_MARKER:
        if (first_pass || reader_of(common)->past_end) fail(common);
        break;
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
        fail(common);
        break;
    default:
        break;
    }
}

static void ignore_text(j_common_ptr decoder) {
    (void)decoder;
}
static void source_start(j_decompress_ptr decoder) {
    (void)decoder;
}

/* Behind the last byte the decoder sees end-of-image markers; whether pixels are missing shows in warn(). */
static boolean source_refill(j_decompress_ptr decoder) {
    static const JOCTET end[2] = {0xff, MARKER_EOI};
    reader_of((j_common_ptr)decoder)->past_end = true;
    decoder->src->next_input_byte = end;
    decoder->src->bytes_in_buffer = sizeof end;
    return TRUE;
}

static void source_skip(j_decompress_ptr decoder, long count) {
    if (count <= 0) return;
    if ((size_t)count >= decoder->src->bytes_in_buffer) {
        source_refill(decoder);
    } else {
        decoder->src->next_input_byte += count;
        decoder->src->bytes_in_buffer -= (size_t)count;
    }
}

static void source_stop(j_decompress_ptr decoder) {
    (void)decoder;
}

static void count_scans(j_common_ptr common) {
    j_decompress_ptr decoder = (j_decompress_ptr)common;
    jpeg_reader *reader = reader_of(common);
    if (decoder->input_scan_number <= reader->max_scans) return;
    reader->result = error_set(STATUS_DATA, "save it again with fewer scans, e.g. as a baseline JPEG",
                               "this JPEG has more than the limit of %d scans", reader->max_scans);
    longjmp(reader->on_error, 1);
}

static void reader_init(jpeg_reader *reader, const uint8_t *bytes, size_t size, const image_limits *limits) {
    *reader = (jpeg_reader){.max_scans = limits->max_jpeg_scans};
    reader->decoder.err = jpeg_std_error(&reader->errors);
    reader->decoder.client_data = reader; /* jpeg_create_decompress keeps both */
    reader->errors.error_exit = fail;
    reader->errors.emit_message = warn;
    reader->errors.output_message = ignore_text;
    reader->source = (struct jpeg_source_mgr){.next_input_byte = bytes,
                                              .bytes_in_buffer = size,
                                              .init_source = source_start,
                                              .fill_input_buffer = source_refill,
                                              .skip_input_data = source_skip,
                                              .resync_to_restart = jpeg_resync_to_restart,
                                              .term_source = source_stop};
    reader->progress.progress_monitor = count_scans;
}

/* Rows of C,M,Y,K to R,G,B in place; without Adobe's marker the values are not inverted. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, int width, bool inverted) {
    for (int x = 0; x < width; x++, rgb += 3, cmyk += 4) {
        int black = inverted ? cmyk[3] : 255 - cmyk[3];
        for (int c = 0; c < 3; c++)
            rgb[c] = (uint8_t)(((inverted ? cmyk[c] : 255 - cmyk[c]) * black + 127) / 255);
    }
}

static void read_rows(j_decompress_ptr decoder, uint8_t *pixels) {
    size_t row_bytes = (size_t)decoder->output_width * 3;
    bool cmyk = decoder->out_color_space == JCS_CMYK;
    JSAMPARRAY line = NULL;
    if (cmyk)
        line = decoder->mem->alloc_sarray((j_common_ptr)decoder, JPOOL_IMAGE, decoder->output_width * 4, 1);
    while (decoder->output_scanline < decoder->output_height) {
        uint8_t *to = pixels + decoder->output_scanline * row_bytes;
        if (cmyk) {
            jpeg_read_scanlines(decoder, line, 1);
            cmyk_to_rgb(to, line[0], (int)decoder->output_width, decoder->saw_Adobe_marker);
            continue;
        }
        JSAMPROW rows[4];
        JDIMENSION count = decoder->output_height - decoder->output_scanline;
        if (count > 4) count = 4;
        for (JDIMENSION i = 0; i < count; i++) rows[i] = to + i * row_bytes;
        jpeg_read_scanlines(decoder, rows, count);
    }
}

static void decode(jpeg_reader *reader, uint8_t *pixels, const image_header *header) {
    j_decompress_ptr decoder = &reader->decoder;
    jpeg_create_decompress(decoder);
    decoder->src = &reader->source;
    decoder->progress = &reader->progress;
    /* 8 bytes a pixel hold the coefficients of four components; the rest is for rows and padding to whole
     * blocks */
    int64_t allowed = (int64_t)header->stored_height * header->stored_width * 8 + ((int64_t)64 << 20);
    decoder->mem->max_memory_to_use = (long)allowed;
    jpeg_read_header(decoder, TRUE);
    if ((int)decoder->image_height != header->stored_height ||
        (int)decoder->image_width != header->stored_width) {
        reader->result = error_set(
            STATUS_DATA, replace_file, "damaged JPEG: two frame headers, %d x %d and %u x %u",
            header->stored_width, header->stored_height, decoder->image_width, decoder->image_height);
        return;
    }
    switch (decoder->jpeg_color_space) {
    case JCS_GRAYSCALE:
    case JCS_YCbCr:
    case JCS_RGB:
        decoder->out_color_space = JCS_RGB;
        break;
    case JCS_CMYK:
    case JCS_YCCK:
        decoder->out_color_space = JCS_CMYK;
        break;
    default:
        reader->result =
            error_set(STATUS_DATA, convert_file, "this JPEG has %d colour components, not 1, 3 or 4",
                      decoder->num_components);
        return;
    }
    jpeg_start_decompress(decoder);
    bool one_pass = !decoder->progressive_mode && !decoder->arith_code && !jpeg_has_multiple_scans(decoder);
    read_rows(decoder, pixels);
    jpeg_finish_decompress(decoder);
    if (reader->past_end && !one_pass)
        reader->result = error_set(STATUS_DATA, replace_file, "damaged JPEG: it is cut off before its end");
}

status image_jpeg_decode(uint8_t *pixels, const image_header *header, const uint8_t *bytes, size_t size,
                         const image_limits *limits) {
    jpeg_reader reader;
    reader_init(&reader, bytes, size, limits);
    if (setjmp(reader.on_error) == 0) decode(&reader, pixels, header);
    jpeg_destroy_decompress(&reader.decoder);
    return reader.result;
}
