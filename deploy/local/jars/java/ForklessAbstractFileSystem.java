/*
 * Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in
 * compliance with the License. You may obtain a copy of the License in the LICENSE file of this project.
 * Software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR
 * CONDITIONS OF ANY KIND, either express or implied.
 */
package tillstream.fs;

import java.io.IOException;
import java.net.URI;
import java.net.URISyntaxException;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.DelegateToFileSystem;

/** {@code fs.AbstractFileSystem.file.impl}: the same files by the interface that Spark's checkpoints use. */
public class ForklessAbstractFileSystem extends DelegateToFileSystem {
    public ForklessAbstractFileSystem(URI uri, Configuration configuration)
            throws IOException, URISyntaxException {
        super(uri, new ForklessRawFileSystem(), configuration, "file", false);
    }

    @Override
    public int getUriDefaultPort() {
        return -1;
    }

    @Override
    public boolean isValidName(String source) {
        // The names come from Spark and Delta, never from outside.
        return true;
    }
}
