"""From files to checked records, and from records to snapshots.

| file | what lives there |
|---|---|
| read.py | a file's bytes: hashed, unpacked, decoded, cut into blocks of whole records |
| csvshape.py | whether a block of CSV is built as it must be, seen from its bytes |
| tabular.py | a block of CSV as raw columns, fast where that is safe |
| nested.py | NDJSON lines and Parquet batches as raw columns |
| check.py | the declaration's rules for values, and pseudonyms for identifiers |
| identities.py | the journey of a file of identities into the vault |
| reading.py | a file opened in its declared format; the names in it against the declared ones |
| load.py | the journey of one file: all or nothing, once |
| registers.py | the service's own registers as sources, read when a snapshot is built |
| special.py | special category data in the stores: what goes when no case opens it |
| snapshot.py | the journey from loaded sources to the snapshots of a view |

No identifier leaves this room: not to the store, not to a message, not to a file.
"""
