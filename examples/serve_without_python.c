/* Asks an export of clsd_tf without Python: with the C library of TensorFlow alone.
 *
 *   T=.venv/lib/python3.11/site-packages/tensorflow
 *   cc examples/serve_without_python.c -o serve -I$T/include \
 *       $T/libtensorflow_cc.so.2 $T/libtensorflow_framework.so.2 -Wl,-rpath,$PWD/$T
 *   ./serve served/click_model/1 OUTPUT_TENSOR INPUTS_FILE
 *
 * OUTPUT_TENSOR and the names in INPUTS_FILE are those that `saved_model_cli show` tells, such as
 * StatefulPartitionedCall:0. INPUTS_FILE holds, little-endian:
 *   int32 number of tensors, and for each:
 *   int32 length of the name, the name; int32 type (as TF_DataType); int32 rank; int64 dimensions;
 *   the values as they lie in memory, or for strings an int64 length and the bytes of each.
 * Prints one number a line. The status is 1, with the message of TensorFlow, if it refuses.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

enum { MAX_TENSORS = 256, MAX_RANK = 8, MAX_NAME = 512 };

static void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void check(TF_Status *status, const char *what) {
  if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

static void read_bytes(FILE *file, void *into, size_t bytes) {
  if (fread(into, 1, bytes, file) != bytes) fail("inputs", "the file is cut short");
}

static int32_t read_int32(FILE *file) {
  int32_t value;
  read_bytes(file, &value, sizeof value);
  return value;
}

static int64_t read_int64(FILE *file) {
  int64_t value;
  read_bytes(file, &value, sizeof value);
  return value;
}

/* "name:1" -> output 1 of operation `name`. */
static TF_Output find_output(TF_Graph *graph, const char *tensor) {
  char name[MAX_NAME];
  snprintf(name, sizeof name, "%s", tensor);
  char *colon = strchr(name, ':');
  TF_Output found = {NULL, 0};
  if (colon) {
    *colon = '\0';
    found.index = atoi(colon + 1);
  }
  found.oper = TF_GraphOperationByName(graph, name);
  if (!found.oper) fail(tensor, "there is no such tensor in the graph");
  return found;
}

static TF_Tensor *read_tensor(FILE *file) {
  TF_DataType type = (TF_DataType)read_int32(file);
  int rank = read_int32(file);
  if (rank < 0 || rank > MAX_RANK) fail("inputs", "a rank is out of range");
  int64_t dims[MAX_RANK], count = 1;
  for (int i = 0; i < rank; ++i) count *= dims[i] = read_int64(file);
  size_t bytes = count * (type == TF_STRING ? sizeof(TF_TString) : TF_DataTypeSize(type));
  TF_Tensor *tensor = TF_AllocateTensor(type, dims, rank, bytes);
  if (!tensor) fail("inputs", "no memory");
  if (type != TF_STRING) {
    read_bytes(file, TF_TensorData(tensor), bytes);
    return tensor;
  }
  TF_TString *strings = TF_TensorData(tensor);
  for (int64_t i = 0; i < count; ++i) {
    int64_t length = read_int64(file);
    char *text = malloc(length ? length : 1);
    if (!text) fail("inputs", "no memory");
    read_bytes(file, text, length);
    TF_StringInit(&strings[i]);
    TF_StringCopy(&strings[i], text, length);
    free(text);
  }
  return tensor;
}

int main(int argc, char **argv) {
  if (argc != 4) fail("usage", "serve EXPORT OUTPUT_TENSOR INPUTS_FILE");
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status, "loading");

  FILE *file = fopen(argv[3], "rb");
  if (!file) fail(argv[3], "cannot be read");
  int32_t count = read_int32(file);
  if (count < 0 || count > MAX_TENSORS) fail("inputs", "the number of tensors is out of range");
  TF_Output inputs[MAX_TENSORS];
  TF_Tensor *values[MAX_TENSORS];
  for (int i = 0; i < count; ++i) {
    char name[MAX_NAME];
    int32_t length = read_int32(file);
    if (length < 0 || length >= MAX_NAME) fail("inputs", "a name is too long");
    read_bytes(file, name, length);
    name[length] = '\0';
    inputs[i] = find_output(graph, name);
    values[i] = read_tensor(file);
  }
  fclose(file);

  TF_Output output = find_output(graph, argv[2]);
  TF_Tensor *answer = NULL;
  TF_SessionRun(session, NULL, inputs, values, count, &output, &answer, 1, NULL, 0, NULL, status);
  check(status, "running");
  if (TF_TensorType(answer) != TF_FLOAT) fail(argv[2], "the tensor does not hold float32");
  const float *scores = TF_TensorData(answer);
  for (int64_t i = 0; i < TF_TensorElementCount(answer); ++i) printf("%.9g\n", scores[i]);

  for (int i = 0; i < count; ++i) TF_DeleteTensor(values[i]);
  TF_DeleteTensor(answer);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
