# Training: per kind (cpu, gpu) a compute environment that is empty when nothing runs, a queue and a job definition.

locals {
  kinds = {
    for kind, settings in {
      cpu = {
        image_type     = "ECS_AL2023"
        instance_types = var.trainer.cpu_instance_types
        is_spot        = var.trainer.cpu_spot
        max_vcpus      = var.trainer.cpu_max_vcpus
        requirements   = { VCPU = var.trainer.cpu_job_vcpus, MEMORY = var.trainer.cpu_job_memory_mb }
      }
      gpu = {
        image_type     = "ECS_AL2023_NVIDIA"
        instance_types = var.trainer.gpu_instance_types
        is_spot        = true
        max_vcpus      = var.trainer.gpu_max_vcpus
        requirements   = { VCPU = var.trainer.gpu_job_vcpus, MEMORY = var.trainer.gpu_job_memory_mb, GPU = 1 }
      }
    } : kind => settings if settings.max_vcpus > 0
  }
}

resource "aws_launch_template" "this" {
  name        = "${var.prefix}-training"
  description = "Training instances: encrypted disks, instance metadata by token only."

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_size           = 60
      volume_type           = "gp3"
      encrypted             = true
      delete_on_termination = true
    }
  }

  # Batch runs containers on the instance's network, so they reach its metadata whatever the hop limit: what the
  # instance's role may do (roles.tf) a job may do too.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = "${var.prefix}-training", project = var.prefix }
  }

  tag_specifications {
    resource_type = "volume"
    tags          = { Name = "${var.prefix}-training", project = var.prefix }
  }
}

resource "aws_batch_compute_environment" "this" {
  for_each = local.kinds

  # No service_role: Batch then uses its service-linked role, which it makes itself and which can update in place.
  name_prefix = "${var.prefix}-${each.key}-"
  type        = "MANAGED"
  state       = "ENABLED"

  compute_resources {
    type                = each.value.is_spot ? "SPOT" : "EC2"
    allocation_strategy = each.value.is_spot ? "SPOT_PRICE_CAPACITY_OPTIMIZED" : "BEST_FIT_PROGRESSIVE"
    bid_percentage      = each.value.is_spot ? var.trainer.spot_bid_percent : null
    min_vcpus           = 0
    max_vcpus           = each.value.max_vcpus
    instance_type       = each.value.instance_types
    instance_role       = aws_iam_instance_profile.instance.arn
    subnets             = var.subnet_ids
    security_group_ids  = var.security_group_ids

    ec2_configuration {
      image_type = each.value.image_type
    }

    launch_template {
      launch_template_id = aws_launch_template.this.id
      version            = aws_launch_template.this.latest_version
    }
  }

  update_policy {
    job_execution_timeout_minutes = 30
    terminate_jobs_on_update      = false
  }

  lifecycle {
    create_before_destroy = true
  }

  # Instances can only leave their cluster while the role still lets them.
  depends_on = [aws_iam_role_policy.instance]
}

resource "aws_batch_job_queue" "this" {
  for_each = local.kinds

  name     = "${var.prefix}-${each.key}"
  state    = "ENABLED"
  priority = 1

  compute_environment_order {
    order               = 1
    compute_environment = aws_batch_compute_environment.this[each.key].arn
  }
}

resource "aws_batch_job_definition" "trainer" {
  for_each = local.kinds

  name                  = "${var.prefix}-trainer-${each.key}"
  type                  = "container"
  platform_capabilities = ["EC2"]
  propagate_tags        = true

  container_properties = jsonencode({
    image            = "${aws_ecr_repository.trainer.repository_url}:${var.trainer.image_tag}-${each.key}"
    user             = "65532"
    privileged       = false
    jobRoleArn       = aws_iam_role.job.arn
    executionRoleArn = aws_iam_role.execution.arn
    # A container on EC2 is told no region.
    environment = [
      { name = "AWS_REGION", value = var.region },
      { name = "MOOLA_LOG", value = var.log_level },
    ]
    resourceRequirements = [for type, value in each.value.requirements : { type = type, value = tostring(value) }]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.jobs.name
        awslogs-region        = var.region
        awslogs-stream-prefix = "trainer-${each.key}"
      }
    }
  })

  # As the Batch adapter asks for with every job: again after a Spot reclaim, exit code 75 and a death by signal.
  retry_strategy {
    attempts = 5

    evaluate_on_exit {
      action           = "RETRY"
      on_status_reason = "Host EC2*"
    }

    dynamic "evaluate_on_exit" {
      for_each = ["75", "137", "143"]

      content {
        action       = "RETRY"
        on_exit_code = evaluate_on_exit.value
      }
    }

    evaluate_on_exit {
      action    = "EXIT"
      on_reason = "*"
    }
  }

  timeout {
    attempt_duration_seconds = var.trainer.timeout_secs
  }
}

resource "aws_cloudwatch_log_group" "jobs" {
  #checkov:skip=CKV_AWS_338:system logs are kept 90 days by the retention table; the audit trail is kept elsewhere
  name              = "/${var.prefix}/jobs"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_ecr_repository" "trainer" {
  name                 = "${var.prefix}-trainer"
  image_tag_mutability = "IMMUTABLE"
  force_delete         = !var.protect_data

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = var.kms_key_arn
  }
}

resource "aws_ecr_lifecycle_policy" "trainer" {
  repository = aws_ecr_repository.trainer.name

  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "Untagged layers go after a week."
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 7 }
        action       = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "The last 20 images stay."
        selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 20 }
        action       = { type = "expire" }
      },
    ]
  })
}
