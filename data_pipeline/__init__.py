"""Raw click log -> shards -> tf.data, by one declaration of the log (`clsd_tf.features`)."""
