/*
 * Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in
 * compliance with the License. You may obtain a copy of the License in the LICENSE file of this project.
 * Software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR
 * CONDITIONS OF ANY KIND, either express or implied.
 */
package tillstream.fs;

import org.apache.hadoop.fs.LocalFileSystem;

/**
 * {@code fs.file.impl}: local files without forks and without Hadoop's {@code .crc} companions.
 *
 * <p>The companion files double the number of files and of renames. Parquet pages, Delta commits and Spark's
 * checkpoints do not rely on them, and no other reader of the lake knows them.
 */
public class ForklessFileSystem extends LocalFileSystem {
    public ForklessFileSystem() {
        super(new ForklessRawFileSystem());
        setWriteChecksum(false);
        setVerifyChecksum(false);
    }
}
